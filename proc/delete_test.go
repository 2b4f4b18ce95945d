// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/proc/internal/proctest"
	"containerd-shim.v1/reaper"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// B18: a restored process that is dead before the runtime has returned.
func TestRestore(t *testing.T) {
	census(t)
	verb, entered, release := held(t)
	out := fifo(t)
	f := &fakeRuntime{process: []string{"exit", "7"}, after: map[string]func(context.Context) error{"restore": verb}}
	p := created(t, f, InitConfig{Checkpoint: "/image", Stdio: Stdio{Stdout: out}})
	if f.called("create") || !errdefs.IsFailedPrecondition(p.CheckExec()) {
		t.Error("a checkpoint is not to be created, nor exec'd in")
	}
	if err := p.Kill(t.Context(), 9, false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("kill before the restore: %v", err)
	}
	started := make(chan error, 1)
	go func() { started <- p.Start(t.Context()) }()
	within(t, patience, "restore", entered)
	c := attach(t, out)
	reaped := proctest.Reaper.Reaped()
	wait.Until(100*time.Millisecond, func() bool { return proctest.Reaper.Reaped() > reaped }) // it may be dead already
	release()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if s := p.awaitStopped(t); s.Exit.Status != 7 || s.Phase != Stopped && s.Phase != Running {
		t.Errorf("got %+v", s)
	}
	if !wait.Until(patience, func() bool { return p.Snapshot().Phase == Stopped }) {
		t.Errorf("phase %v", p.Snapshot().Phase)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	c.All(t)
	if !f.called("restore /image " + p.env.WorkDir) {
		t.Errorf("calls %q", f.calls)
	}
}

func TestRestoreThatFails(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}, after: map[string]func(context.Context) error{"restore": failing(errRuntime)}}
	p := created(t, f, InitConfig{Checkpoint: "/image", Stdio: Stdio{Stdin: fifo(t), Stdout: fifo(t)}})
	if err := p.Start(t.Context()); !errors.Is(err, errRuntime) {
		t.Errorf("got %v", err)
	}
	if !dead(f.lastPid()) {
		t.Error("the process is alive")
	}
	if s := p.awaitStopped(t); s.Phase != Stopped || s.Exit.Status != reaper.UnknownStatus {
		t.Errorf("got %+v", s)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// Streams that cannot be opened are no failed restore: it can be started again. What the
// client has asked for before counts.
func TestRestoreWithoutStreams(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"exit", "3"}}
	out := filepath.Join(t.TempDir(), "out")
	p := created(t, f, InitConfig{Checkpoint: "/image", Stdio: Stdio{Stdout: out}})
	if err := p.Start(t.Context()); err == nil || p.Snapshot().Phase != Created {
		t.Errorf("start: %v, phase %v", err, p.Snapshot().Phase)
	}
	if err := unix.Mkfifo(out, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := attach(t, out)
	if s := p.awaitStopped(t); s.Exit.Status != 3 {
		t.Errorf("got %+v", s)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	c.All(t)
}

// What waits to be restored is not handed over to another program, whatever streams it
// has: their other ends are needed yet.
func TestUnrestoredCheckpointIsNotSaved(t *testing.T) {
	for name, names := range map[string]Stdio{
		"no streams": {}, "input": {Stdin: fifo(t)}, "output": {Stdout: fifo(t)},
		"terminal": {Stdin: fifo(t), Stdout: fifo(t), Terminal: true},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			f := &fakeRuntime{process: []string{"sleep"}}
			p := newTestInit(t, f, InitConfig{Checkpoint: "image", Stdio: names})
			g := new(gate.Gate)
			p.env.Streaming = g
			if err := p.Create(t.Context()); err != nil {
				t.Fatal(err)
			}
			if st, err := p.Save(); err == nil {
				t.Errorf("saved: %+v", st)
			}
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			g.Shut()
			defer g.Open()
			p.mu.Lock()
			io := p.io
			p.mu.Unlock()
			io.Interrupt()
			if !wait.Until(patience, func() bool { return g.Inside() == 0 }) {
				t.Fatal("the streams do not stand still")
			}
			if _, err := p.Save(); err != nil {
				t.Errorf("restored: %v", err)
			}
		})
	}
}

// A checkpoint that is deleted without having been restored leaves nothing,
// with or without a terminal. Its client waits for the end of the streams before it asks
// for that: until the restore nobody else has them open.
func TestDeleteOfAnUnrestoredCheckpoint(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		t.Run(strconv.FormatBool(terminal), func(t *testing.T) {
			census(t)
			p := newTestInit(t, &fakeRuntime{}, InitConfig{
				Checkpoint: "/image", Stdio: Stdio{Stdin: fifo(t), Stdout: fifo(t), Terminal: terminal},
			})
			p.env.Streams.Drain, p.env.Streams.DrainFlowing = 20*time.Second, 20*time.Second
			if err := p.Create(t.Context()); err != nil {
				t.Fatal(err)
			}
			if out, err := os.OpenFile(p.config.Stdio.Stdout, os.O_WRONLY|unix.O_NONBLOCK, 0); !errors.Is(err, unix.ENXIO) {
				t.Errorf("the output is open for reading: %v", err)
				_ = out.Close()
			}
			start := time.Now()
			if err := p.Delete(t.Context()); err != nil {
				t.Error(err)
			}
			if d := time.Since(start); d > p.env.Streams.Drain/2 {
				t.Errorf("took %v", d)
			}
			if e, err := p.Wait(t.Context()); err != nil || e.Status != reaper.UnknownStatus {
				t.Errorf("Wait: %+v, %v", e, err)
			}
		})
	}
}

// B43: deleting a container that was never started kills it; Wait and Delete
// agree on how.
func TestDeleteOfACreatedContainer(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	f.after = map[string]func(context.Context) error{"delete": func(context.Context) error {
		return unix.Kill(f.lastPid(), unix.SIGKILL)
	}}
	p := created(t, f, InitConfig{})
	err := p.Delete(t.Context())
	snap := p.Snapshot()
	if err != nil || snap.Exit.Status != 137 || snap.Exit.At.IsZero() || snap.Phase != Deleted {
		t.Errorf("got %+v, %v", snap, err)
	}
	if e, err := p.Wait(t.Context()); err != nil || e != snap.Exit {
		t.Errorf("Wait %+v, %v, Delete %+v", e, err, snap.Exit)
	}
}

// TestKillRestWithoutProcesses: what is left of a paused container stayed frozen for ever
// if no process could be forked for its resume at that moment.
func TestKillRestWithoutProcesses(t *testing.T) {
	lacks := map[string]int{"resume": 2, "kill": 2}
	lacking := func(verb string) func(context.Context) error {
		return func(context.Context) error {
			if lacks[verb]--; lacks[verb] >= 0 {
				return &RuntimeError{Verb: verb, class: errdefs.ErrResourceExhausted, cause: &reaper.StartError{Err: unix.EAGAIN}}
			}
			return nil
		}
	}
	p := newTestInit(t, &fakeRuntime{after: map[string]func(context.Context) error{"resume": lacking("resume"), "kill": lacking("kill")}}, InitConfig{})
	p.sharedPids = true
	p.KillRest(t.Context(), true)
	for verb, left := range lacks {
		if left != -1 {
			t.Errorf("%s was called %d times, want 3", verb, 2-left)
		}
	}
}

// TestKillRestWhileTheRuntimeHangs: the kill has its time, however long the steps before it
// have taken.
func TestKillRestWhileTheRuntimeHangs(t *testing.T) {
	for verb, wasPaused := range map[string]bool{"state": false, "resume": true} {
		t.Run(verb, func(t *testing.T) {
			hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			killed := make(chan error, 1)
			p := newTestInit(t, &fakeRuntime{after: map[string]func(context.Context) error{
				verb: hang, "kill": func(ctx context.Context) error { killed <- ctx.Err(); return nil },
			}}, InitConfig{})
			p.env.Limits.Kill = 100 * time.Millisecond
			p.sharedPids, p.diedUnseen = true, true
			p.KillRest(t.Context(), wasPaused)
			select {
			case err := <-killed:
				if err != nil {
					t.Errorf("the kill has no time left: %v", err)
				}
			default:
				t.Error("nothing was killed")
			}
		})
	}
}
