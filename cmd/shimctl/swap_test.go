// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// swapped exchanges a shim's program for this tree's.
func swapped(t *testing.T, shim *shimtest.Shim, wedged bool) *takeover.Outcome {
	t.Helper()
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	o, err := underTest().tracer().Swap(t.Context(), &s, shimtest.Own(t), "", wedged, 10*time.Second)
	if err != nil {
		t.Fatalf("swap: %v %+v", err, o)
	}
	if now, ok := scan.One(procRoot, shim.PID, s.StartTicks); !ok || !now.Build.Ours {
		t.Fatalf("got %+v", now)
	}
	return o
}

// endLate ends the processes that end when they are told.
func endLate(t *testing.T, shim *shimtest.Shim, clients []*client) {
	t.Helper()
	for _, c := range clients {
		if c.late {
			if _, err := shim.API.Kill(t.Context(), &shimapi.KillRequest{ID: c.id, Signal: uint32(unix.SIGTERM)}); err != nil {
				t.Errorf("%s: %v", c.id, err)
			}
		}
	}
}

// lifeGoesOn wants all that a shim does, to the end of the container.
func lifeGoesOn(t *testing.T, shim *shimtest.Shim) {
	t.Helper()
	ctx := t.Context()
	if !shim.Answers() {
		t.Fatal("State is not answered")
	}
	c := &client{id: "afterwards", status: 77}
	if err := shim.Create(ctx, c.id, c.spec()); err != nil {
		t.Fatal(err)
	}
	if err := c.start(ctx, shim.API); err != nil {
		t.Error(err)
	}
	shimtest.Until(t, 10*time.Second, "no zombie", func() bool { return shim.Zombies() == 0 })
	if _, err := shim.API.Kill(ctx, &shimapi.KillRequest{ID: shim.ID, Signal: uint32(unix.SIGKILL)}); err != nil {
		t.Error(err)
	}
	w, err := shim.API.Wait(ctx, &shimapi.WaitRequest{ID: shim.ID})
	if err != nil || w.ExitStatus != 137 {
		t.Errorf("the container ends with %v, %v", w, err)
	}
	if d, err := shim.API.Delete(ctx, &emptypb.Empty{}); err != nil || d.ExitStatus != 137 {
		t.Errorf("delete: %v, %v", d, err)
	}
}

// Two execs run, and a client waits for each.
func TestSwapHealthy(t *testing.T) {
	for _, version := range builds("v1.1.2", "v1.2.0", "v1.2.6", "v1.2.13", "v1.6.38", "v1.7.35", "debian") {
		t.Run(version, func(t *testing.T) {
			shim, _, wg, clients := withWaits(t, version)
			o := swapped(t, shim, false)
			t.Logf("stood still for %v, answered %v later", o.Stopped, o.Answered)
			if len(o.Report.Requests) != 2 {
				t.Errorf("got %+v", o.Report)
			}
			endLate(t, shim, clients)
			wg.Wait()
			lifeGoesOn(t, shim)
		})
	}
}

// TestSwapWithABadEnvironment: what the old program ignored in its environment must not end the
// new one, which has no other program to fall back on.
func TestSwapWithABadEnvironment(t *testing.T) {
	t.Setenv("CONTAINERD_SHIM_RUNTIME_TIMEOUT", "600")
	t.Setenv("CONTAINERD_SHIM_RECYCLE", "3MB")
	shim := started(t, shimtest.Baseline(t, "v1.2.6"))
	// Only the shim's: what checks the new program has shimctl's own.
	t.Setenv("CONTAINERD_SHIM_RUNTIME_TIMEOUT", "")
	t.Setenv("CONTAINERD_SHIM_RECYCLE", "")
	swapped(t, shim, false)
	lifeGoesOn(t, shim)
}

func TestSwapWedged(t *testing.T) {
	for _, version := range buildsOf("v1.1.2", "v1.2.0") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			wg, clients := wedgedWith(t, shim, 10)
			shimtest.Until(t, 20*time.Second, "all clients to hang", func() bool {
				o, _ := looked(t, shim, true)
				return len(o.Report.Requests) >= len(clients)
			})
			o := swapped(t, shim, true)
			t.Logf("stood still for %v, answered %v later", o.Stopped, o.Answered)
			endLate(t, shim, clients)
			wg.Wait()
			lifeGoesOn(t, shim)
		})
	}
}

// The start that closes the ring is not done again: its process has run, with output that
// nobody has read yet, and its end is known to the old program only.
func TestSwapFinishesTheStart(t *testing.T) {
	for _, version := range buildsOf("v1.1.2", "v1.2.0") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			dir := t.TempDir()
			ran := filepath.Join(dir, "ran")
			c := &client{id: "held", status: 9}
			e := &shimapi.ExecProcessRequest{ID: c.id, Stdin: filepath.Join(dir, "in"), Stdout: filepath.Join(dir, "out"), Stderr: filepath.Join(dir, "err")}
			e.Spec = &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
				Value: fmt.Appendf(nil, `{"user":{"uid":0,"gid":0},"args":["testinit","touch:%s","echo:said","exit:9"],"cwd":"/"}`, ran)}
			var said *os.File
			for _, name := range []string{e.Stdin, e.Stdout, e.Stderr} {
				if err := unix.Mkfifo(name, 0o600); err != nil {
					t.Fatal(err)
				}
				f, err := os.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if name == e.Stdout {
					said = f
				}
			}
			done := make(chan error, 1)
			release := shim.Hold(t, "exec", func(ctx context.Context) error {
				_, err := shim.API.Exec(ctx, e)
				if err == nil {
					err = c.start(ctx, shim.API)
				}
				done <- err
				return err
			})
			shim.KillOrphans(t)
			shimtest.Until(t, 20*time.Second, "State to hang", func() bool { return !shim.Answers() })
			release()
			shimtest.Until(t, 20*time.Second, "the process has run", func() bool { _, err := os.Stat(ran); return err == nil })
			shimtest.Until(t, 20*time.Second, "unreaped children", func() bool { return shim.Zombies() > 0 })
			o := swapped(t, shim, true)
			t.Logf("%+v", o.Report)
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Error("its client hangs")
			}
			b := make([]byte, 100)
			_ = said.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := said.Read(b); string(b[:n]) != "said\n" {
				t.Errorf("its output is %q, %v", b[:n], err)
			}
			lifeGoesOn(t, shim)
		})
	}
}
