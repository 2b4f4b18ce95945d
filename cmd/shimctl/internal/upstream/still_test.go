// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package upstream

import (
	"errors"
	"fmt"
	goruntime "runtime"
	"testing"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/inplace"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/internal/stackdump"
)

// read needs threads that end with their goroutines. The process's first thread does
// not, so the main goroutine keeps it for itself.
func init() { goruntime.LockOSThread() }

// read stops the shim, and reads it with what was prepared before.
func (p *Prepared) read(pid int, id string) (result *Result, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		goruntime.LockOSThread() // and never unlocked: what is still traced is let go
		var t *inplace.Tracee
		if t, err = inplace.Seize(pid); err != nil {
			return
		}
		defer t.Detach()
		if err = t.Stop(); err == nil {
			result, err = p.Read(id)
		}
	}()
	<-done
	return result, err
}

// TestWhatGoesOnAfterTheDumpIsSeen: whatever happens between the dump and the stop makes
// the dump untrue, and is noticed.
func TestWhatGoesOnAfterTheDumpIsSeen(t *testing.T) {
	for _, version := range []string{"v1.1.2", "v1.2.6", "v1.7.35", "debian"} {
		for what, act := range map[string]func(*testing.T, *shimtest.Shim) error{
			"nothing": func(*testing.T, *shimtest.Shim) error { return nil },
			"a call begins": func(t *testing.T, s *shimtest.Shim) error {
				s.Hold(t, "pause", s.Pause) // let go at the end of the test
				return nil
			},
			"a call is answered": func(t *testing.T, s *shimtest.Shim) error {
				_, err := s.API.Kill(t.Context(), &shimapi.KillRequest{ID: "waited", Signal: uint32(unix.SIGKILL)})
				return err
			},
			"a client comes": func(t *testing.T, s *shimtest.Shim) error {
				_, err := s.Dial(t).State(t.Context(), &shimapi.StateRequest{ID: s.ID})
				return err
			},
		} {
			t.Run(fmt.Sprint(version, " ", what), func(t *testing.T) {
				shim := shimtest.Start(t, shimtest.Baseline(t, version))
				if err := shim.Exec(t.Context(), "waited"); err != nil {
					t.Fatal(err)
				}
				answered := make(chan error, 1)
				go func() {
					_, err := shim.API.Wait(t.Context(), &shimapi.WaitRequest{ID: "waited"})
					answered <- err
				}()
				program, err := Identify(shim.PID)
				if err != nil {
					t.Fatal(err)
				}
				defer program.Text.Close()
				var p *Prepared
				shimtest.Until(t, 10*time.Second, "a Wait, and otherwise rest", func() bool {
					d := dump(t, shim)
					p, err = program.Prepare(shim.PID, d, false, nil)
					return err == nil && stackdump.Explain(d).Requests["Wait"] == 1
				})
				if err := act(t, shim); err != nil {
					t.Fatal(err)
				}
				if what == "a call is answered" {
					if err := <-answered; err != nil {
						t.Fatal(err)
					}
				}
				result, err := p.read(shim.PID, shim.ID)
				for end := time.Now().Add(time.Minute); time.Now().Before(end) && (errors.Is(err, inplace.ErrBusy) || errors.Is(err, unix.EPERM)); { // it does not stop in time on a busy machine, and is let go when the thread ends
					result, err = p.read(shim.PID, shim.ID)
				}
				if what == "nothing" {
					// The shim's collector may close a file at any time: then it is tried again.
					for end := time.Now().Add(time.Minute); time.Now().Before(end) && errors.Is(err, ErrBusy); {
						if p, err = program.Prepare(shim.PID, dump(t, shim), false, nil); err == nil {
							result, err = p.read(shim.PID, shim.ID)
						}
					}
					if err != nil || len(result.State.Connections) != 1 || len(result.State.Connections[0].Requests) != 1 {
						t.Errorf("got %+v, %v", result, err)
					}
					return
				}
				if !errors.Is(err, ErrBusy) {
					t.Errorf("got %+v, %v", result, err)
				}
			})
		}
	}
}

func dump(t *testing.T, shim *shimtest.Shim) *stackdump.Dump {
	t.Helper()
	s, ok := scan.One("/proc", shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	r, err := stacks.Taker{Proc: "/proc", Program: shimtest.Shimctl(t)}.Take(t.Context(), &s, stacks.Auto, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return r.Dump
}

// TestReaderInASystemCallMustBeHeld: a goroutine that reads a connection has taken nothing as
// long as its thread is held at the read. One in the same call that is not held may have
// read, and not have come back.
func TestReaderInASystemCallMustBeHeld(t *testing.T) {
	everywhere := map[int]bool{}
	for fd := range 100 {
		everywhere[fd] = true
	}
	for _, version := range []string{"v1.1.2", "v1.2.6", "v1.7.35", "debian"} {
		t.Run(version, func(t *testing.T) {
			shim := shimtest.Start(t, shimtest.Baseline(t, version))
			program, err := Identify(shim.PID)
			if err != nil {
				t.Fatal(err)
			}
			defer program.Text.Close()
			read := func(held map[int]bool) (result *Result, err error) {
				d := dump(t, shim)
				found := false
				for i := range d.Goroutines {
					if g := &d.Goroutines[i]; has(g, (&reader{Program: program}).receiver()) && g.State == "IO wait" {
						g.State, found = "syscall", true
					}
				}
				if !found {
					return nil, ErrBusy // it is not at rest yet
				}
				p, err := program.Prepare(shim.PID, d, false, held)
				if err != nil {
					return nil, err
				}
				return p.read(shim.PID, shim.ID)
			}
			var result *Result
			shimtest.Until(t, 30*time.Second, "a reading with the thread held", func() bool {
				result, err = read(everywhere)
				return err == nil
			})
			if len(result.State.Connections) != 1 {
				t.Errorf("got %+v", result.State.Connections)
			}
			_, err = read(nil)
			for end := time.Now().Add(time.Minute); time.Now().Before(end) && errors.Is(err, inplace.ErrBusy); { // it does not stop in time on a busy machine
				_, err = read(nil)
			}
			if !errors.Is(err, ErrBusy) {
				t.Errorf("with no thread held: %v", err)
			}
		})
	}
}

// TestAnotherLayoutIsRefused: memory that does not check out will not another time either,
// since nothing changes meanwhile. As a passing error it kept `repair -kill` from acting.
func TestAnotherLayoutIsRefused(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.6"))
	program, err := Identify(shim.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Text.Close()
	shimtest.Until(t, time.Minute, "a reading", func() bool {
		p, e := program.Prepare(shim.PID, dump(t, shim), false, nil)
		if e != nil {
			return false
		}
		_, err = p.read(shim.PID, "another container")
		return !errors.Is(err, ErrBusy) && !errors.Is(err, inplace.ErrBusy)
	})
	if !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}
