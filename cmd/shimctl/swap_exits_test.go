// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/integration/harness/wait"
)

// B01: the ring is closed by the exits of execs, each of which has a client that waits. No
// status is lost: not of those in the channel, nor of those that are on the way there.
func TestSwapKnowsEveryExit(t *testing.T) {
	for _, version := range buildsOf("v1.1.2", "v1.2.0") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			path := filepath.Join(t.TempDir(), "gate")
			gate, err := wait.NewGate(path)
			if err != nil {
				t.Fatal(err)
			}
			defer gate.Close()
			wg := new(sync.WaitGroup)
			for i := range 60 {
				c := &client{id: fmt.Sprint("e", i), status: 1 + i}
				spec := fmt.Appendf(nil, `{"user":{"uid":0,"gid":0},"args":["testinit","gate:%s","exit:%d"],"cwd":"/"}`, path, c.status)
				if err := shim.ExecSpec(t.Context(), c.id, spec); err != nil {
					t.Fatal(err)
				}
				background(wg, t, c, func() error { return c.finish(t.Context(), shim.API) })
			}
			release := shim.HoldExec(t)
			if err := gate.Open(); err != nil {
				t.Fatal(err)
			}
			shimtest.Until(t, 20*time.Second, "State to hang", func() bool { return !shim.Answers() })
			release()
			shimtest.Until(t, 20*time.Second, "unreaped children", func() bool { return shim.Zombies() > 0 })
			o := swapped(t, shim, true)
			t.Logf("%+v", o.Report)
			if o.Report.Unknown != 0 {
				t.Errorf("%d processes have ended nobody knows how", o.Report.Unknown)
			}
			wg.Wait()
			lifeGoesOn(t, shim)
		})
	}
}
