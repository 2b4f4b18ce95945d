// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"strconv"
	"strings"
	"testing"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"

	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/rounds"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// under starts a containerd with a container of that shim.
func under(t *testing.T, binary string) *shimtest.Shim {
	t.Helper()
	return shimtest.Underneath(t, binary, func(id string) int {
		found, err := scan.Find(procRoot, "", []string{id})
		if err != nil {
			t.Fatal(err)
		}
		return found[0].PID
	})
}

// F15: shims that a daemon has given up were called Healthy. One daemon knows
// one of two shims; the verdict itself takes a minute (see judge).
func TestDaemonKnowsItsTasks(t *testing.T) {
	kept := under(t, shimtest.Baseline(t, "debian"))
	lost := started(t, shimtest.Baseline(t, "debian"), "-address", kept.Daemon)
	c := rounds.Checker{Proc: procRoot, Now: time.Now, Memory: health.Memory{}, Limit: 5 * time.Second, State: rounds.Always}
	if _, err := c.Look(t.Context(), []string{strconv.Itoa(kept.PID), strconv.Itoa(lost.PID)}); err != nil {
		t.Fatal(err)
	}
	if c.Memory[kept.PID].Gone || !c.Memory[lost.PID].Gone {
		t.Errorf("gone: of the daemon's own shim %v, of another %v", c.Memory[kept.PID].Gone, c.Memory[lost.PID].Gone)
	}
	if !c.Memory[kept.PID].Ended.IsZero() {
		t.Errorf("got ended %v of a container that runs", c.Memory[kept.PID].Ended)
	}
	if _, err := lost.API.Kill(t.Context(), &shimapi.KillRequest{ID: lost.ID, Signal: 9}); err != nil {
		t.Fatal(err)
	}
	if _, err := lost.API.Wait(t.Context(), &shimapi.WaitRequest{ID: lost.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Look(t.Context(), []string{strconv.Itoa(lost.PID)}); err != nil {
		t.Fatal(err)
	}
	if at := c.Memory[lost.PID].Ended; at.IsZero() || time.Since(at) > time.Minute {
		t.Errorf("got ended %v of a container that has just ended", at)
	}
}

// The whole way with a real containerd (Debian's): a wedged shim of v1.1.2 and
// v1.2.0 is found, proven and ended, and containerd forgets the task.
func TestRepairUnderContainerd(t *testing.T) {
	for _, version := range []string{"v1.1.2", "v1.2.0"} {
		t.Run(version, func(t *testing.T) {
			shim := under(t, shimtest.Baseline(t, version))
			pid := strconv.Itoa(shim.PID)
			if status, o, e := capture(t, "check", "-state", "always", "-state-file", "", pid); status != exitOK || !strings.Contains(o, "Healthy") {
				t.Fatalf("before: status %d\n%s%s", status, o, e)
			}
			shim.Wedge(t)
			status, o, e := capture(t, "check", "-confirm", "-state", "always", "-state-file", "", pid)
			if status != exitSome || !strings.Contains(o, "ReaperDeadlock") {
				t.Fatalf("check: status %d\n%s%s", status, o, e)
			}
			t.Log("\n" + o)
			status, o, e = capture(t, "repair", "-yes", "-kill", "-binary", "", "-state", "always", "-state-file", "", "-dir", t.TempDir(), pid)
			if status != exitOK || !strings.Contains(o, "repaired (ReaperDeadlock)") {
				t.Fatalf("repair: status %d\n%s%s", status, o, e)
			}
			t.Log("\n" + o)
		})
	}
}
