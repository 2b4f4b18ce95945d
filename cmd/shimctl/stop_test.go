// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// How long a shim stands still while all that it is gets read and written down, healthy and
// in the ring with 90 clients. LOOKS says how often; the figures say something on a machine that
// does nothing else.
func TestHowLongItStandsStill(t *testing.T) {
	looks, err := strconv.Atoi(os.Getenv("LOOKS"))
	if err != nil {
		looks = 3
	}
	measure := func(t *testing.T, pid int, wedged bool) {
		t.Helper()
		s, ok := scan.One(procRoot, pid, 0)
		if !ok {
			t.Fatalf("%d is no shim", pid)
		}
		file := filepath.Join("/run", filepath.Base(t.TempDir())+strconv.Itoa(pid)) // in memory, as bundles are
		defer os.Remove(file)
		var all, held []time.Duration
		for len(all) < looks {
			o, err := underTest().tracer().Run(t.Context(), &s, takeover.Request{StateFile: file, Wedged: wedged}, 20*time.Second)
			if err != nil || o.Error != "" {
				t.Fatalf("%+v, %v", o, err)
			}
			all, held = append(all, o.Stopped), append(held, o.Held)
		}
		slices.Sort(all)
		slices.Sort(held)
		t.Logf("%d looks: stood still %v at the median, %v at worst; calls held for %v, %v", looks, all[looks/2], all[looks-1], held[looks/2], held[looks-1])
	}
	for _, version := range []string{"v1.1.2", "v1.2.6", "v1.7.35", "debian"} {
		t.Run(version, func(t *testing.T) {
			shim, _, wg, clients := withWaits(t, version)
			measure(t, shim.PID, false)
			endLate(t, shim, clients)
			wg.Wait()
		})
	}
	for _, version := range []string{"v1.1.2", "v1.2.0"} {
		t.Run(version+" wedged", func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			wg, clients := wedgedWith(t, shim, 30)
			measure(t, shim.PID, true)
			o := swapped(t, shim, true)
			t.Logf("exchanged: stood still for %v, answered %v later", o.Stopped, o.Answered)
			endLate(t, shim, clients)
			wg.Wait()
		})
	}
}
