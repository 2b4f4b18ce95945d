// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// suspected checks twice, with proof, and wants no alarm and this reason.
func suspected(t *testing.T, pid int, reasons ...string) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "check.json")
	for range 2 {
		status, o, e := capture(t, "check", "-confirm", "-state", "always", "-timeout", "500ms", "-state-file", state, strconv.Itoa(pid))
		ok := status == exitOK
		for _, reason := range reasons {
			if ok && strings.Contains(o, "Suspect  "+reason) {
				return
			}
		}
		if !ok {
			t.Fatalf("status %d\n%s%s", status, o, e)
		}
	}
	_, o, e := capture(t, "check", "-confirm", "-timeout", "500ms", "-state-file", state, strconv.Itoa(pid))
	t.Errorf("want Suspect for %q\n%s%s", reasons, o, e)
}

// Each of these looks like a wedge from outside, and was an alarm once.

func TestStoppedShimIsNoWedge(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.0"))
	if err := syscall.Kill(shim.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	suspected(t, shim.PID, "Stopped")
	if err := syscall.Kill(shim.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	shimtest.Until(t, 5*time.Second, "the shim to go on", shim.Answers)
}

func TestFrozenShimIsNoWedge(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.0"))
	thaw := shimtest.Freeze(t, shim.PID)
	suspected(t, shim.PID, "Frozen")
	begun := time.Now()
	if status, o, e := capture(t, "stacks", strconv.Itoa(shim.PID)); status != exitSome || !strings.Contains(e, "frozen") || time.Since(begun) > 5*time.Second {
		t.Errorf("stacks: status %d after %v\n%s%s", status, time.Since(begun), o, e)
	}
	thaw()
	shimtest.Until(t, 5*time.Second, "the shim to go on", shim.Answers)
}

func TestFrozenWedgedShimIsNotRepaired(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.0"))
	shim.Wedge(t)
	thaw := shimtest.Freeze(t, shim.PID)
	dir := filepath.Join(t.TempDir(), "repair")
	status, o, e := capture(t, "repair", "-yes", "-timeout", "500ms", "-state-file", "", "-dir", dir, strconv.Itoa(shim.PID))
	if status != exitOK || !strings.Contains(o, "it is Suspect") {
		t.Errorf("status %d\n%s%s", status, o, e)
	}
	thaw()
	select {
	case <-shim.Exited():
		t.Error("it was killed")
	default:
	}
}

func TestShimInDiskSleepIsNoWedge(t *testing.T) {
	pid := shimtest.Asleep(t)
	shimtest.Until(t, 5*time.Second, "a thread in state D", func() bool { disk, _ := scan.Sleep("/proc", pid); return disk })
	suspected(t, pid, "Blocked")
}

func TestTracedShimIsNoWedge(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.0"))
	strace := exec.Command("strace", "-f", "-o", "/dev/null", "-p", strconv.Itoa(shim.PID))
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = strace.Process.Signal(os.Interrupt); _ = strace.Wait() }() // it ends by our signal
	shimtest.Until(t, 5*time.Second, "strace to attach", func() bool {
		s, ok := scan.One("/proc", shim.PID, 0)
		return ok && s.Tracer != 0
	})
	suspected(t, shim.PID, "Traced")
}

// v1.1.2 holds the service's lock while runc runs, so that State waits for a
// slow hook.
func TestRuncAtWorkIsNoWedge(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.1.2"))
	release := shim.Hold(t, "pause", func(ctx context.Context) error {
		return shim.Pause(ctx)
	})
	defer release()
	suspected(t, shim.PID, "RuncHoldsService", "RuncBlocked", "Starting")
}

// A child whose first thread has ended is a zombie by its state only. Fake runc
// leaves one to every shim.
func TestEndedLeaderIsNoZombie(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.0"))
	leader := func() bool {
		b, err := exec.Command("ps", "-o", "stat=", "--ppid", strconv.Itoa(shim.PID)).Output()
		return err == nil && strings.Contains(string(b), "Zl")
	}
	shimtest.Until(t, 20*time.Second, "a child in state Zl", leader)
	state := filepath.Join(t.TempDir(), "check.json")
	for range 2 {
		status, o, e := capture(t, "check", "-state", "always", "-state-file", state, strconv.Itoa(shim.PID))
		if status != exitOK || !strings.Contains(o, "Healthy") {
			t.Errorf("status %d\n%s%s", status, o, e)
		}
	}
	if s, ok := scan.One("/proc", shim.PID, 0); !ok || len(s.Zombies) != 0 {
		t.Errorf("got %+v", s.Zombies)
	}
}
