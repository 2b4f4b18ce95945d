// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/integration/harness/wait"
)

// TestSwapSparesWhoAskedForAParentDeathSignal: execve(2) ends all threads but one, and a process
// whose parent is one of those gets the signal. The shim's first thread is the parent of
// what the container runs.
func TestSwapSparesWhoAskedForAParentDeathSignal(t *testing.T) {
	for _, version := range builds("v1.1.2", "v1.2.6", "v1.7.35", "debian") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			gate, asked := filepath.Join(shim.Bundle, "go"), filepath.Join(shim.Bundle, "asked")
			g, err := wait.NewGate(gate) // its parent of before has ended when it passes
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			spec := fmt.Sprintf(`{"user":{"uid":0,"gid":0},"args":["testinit","gate:%s","pdeathsig:9","touch:%s","sleep"],"cwd":"/"}`, gate, asked)
			if err := shim.ExecSpec(t.Context(), "e", []byte(spec)); err != nil {
				t.Fatal(err)
			}
			if err := g.Open(); err != nil {
				t.Fatal(err)
			}
			shimtest.Until(t, 20*time.Second, "it has asked for the signal", func() bool {
				_, err := os.Stat(asked)
				return err == nil
			})
			swapped(t, shim, false)
			if s, err := shim.API.State(t.Context(), &shimapi.StateRequest{ID: "e"}); err != nil || s.Status.String() != "RUNNING" {
				t.Errorf("State afterwards: %v, %v", s, err)
			}
			if _, err := shim.API.Kill(t.Context(), &shimapi.KillRequest{ID: "e", Signal: 9}); err != nil {
				t.Error(err)
			}
			lifeGoesOn(t, shim)
		})
	}
}
