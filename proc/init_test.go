// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/proc/internal/proctest"
	"containerd-shim.v1/reaper"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

var errRuntime = &RuntimeError{Verb: "create", Message: "late", class: errdefs.ErrInternal}

func TestInitLife(t *testing.T) {
	census(t)
	out := fifo(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	p := running(t, f, InitConfig{Stdio: Stdio{Stdout: out}})
	c := attach(t, out)
	if s := p.Snapshot(); s.Phase != Running || s.Pid != f.lastPid() || s.ID != "c1" {
		t.Fatalf("after Start: %+v", s)
	}
	steps := []struct {
		name string
		do   func() error
		want Phase
	}{
		{"pause", func() error { return p.Pause(t.Context()) }, Paused},
		{"resume", func() error { return p.Resume(t.Context()) }, Running},
		{"update", func() error { return p.Update(t.Context(), nil) }, Running},
		{"checkpoint", func() error { return p.Checkpoint(t.Context(), CheckpointOptions{}) }, Running},
		{"kill", func() error { return p.Kill(t.Context(), uint32(unix.SIGTERM), false) }, Stopped},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if !wait.Until(patience, func() bool { return p.Snapshot().Phase == s.want }) {
			t.Fatalf("%s: %v", s.name, p.Snapshot().Phase)
		}
	}
	err := p.Delete(t.Context())
	snap := p.Snapshot()
	if err != nil || snap.Phase != Deleted || snap.Exit.Status != 128+int(unix.SIGTERM) || snap.Pid != f.lastPid() {
		t.Errorf("deleted: %+v, %v", snap, err)
	}
	c.All(t)
	if err := p.Delete(t.Context()); !errdefs.IsNotFound(err) {
		t.Errorf("second Delete: %v", err)
	}
	if f.called("resume") && !f.called("delete false") {
		t.Error("the runtime's delete was not called")
	}
}

// B23: whatever makes Create fail after the runtime has made the container,
// nothing of it stays.
func TestCreateThatFailsLate(t *testing.T) {
	for name, tt := range map[string]struct {
		f        *fakeRuntime
		terminal bool
		want     string
	}{
		"runtime fails":     {&fakeRuntime{after: map[string]func(context.Context) error{"create": failing(errRuntime)}}, false, "late"},
		"no pid file":       {&fakeRuntime{pidFile: func(string, int) {}}, false, "pid file"},
		"garbage":           {&fakeRuntime{pidFile: writePid("no pid\n")}, false, `holds no pid: "no pid\n"`},
		"init's own pid":    {&fakeRuntime{pidFile: writePid("1")}, false, "holds no pid"},
		"the shim's pid":    {&fakeRuntime{pidFile: writePid(strconv.Itoa(os.Getpid()))}, false, "not a child"},
		"nobody's pid":      {&fakeRuntime{pidFile: writePid("4194303")}, false, "not a child"},
		"pid file is a dir": {&fakeRuntime{pidFile: func(path string, _ int) { _ = os.Mkdir(path, 0o700) }}, false, "pid file"},
		"no console":        {&fakeRuntime{pidFile: writePid("")}, true, "pid file"},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			in, out := fifo(t), fifo(t)
			tt.f.process = []string{"sleep"}
			p := newTestInit(t, tt.f, InitConfig{Stdio: Stdio{Stdin: in, Stdout: out, Terminal: tt.terminal}})
			tt.f.exists = false
			err := p.Create(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) || !errdefs.IsInternal(err) {
				t.Errorf("got %v, want Internal and %q", err, tt.want)
			}
			if pid := tt.f.lastPid(); !dead(pid) {
				t.Errorf("process %d is alive", pid)
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			if e, err := p.Wait(t.Context()); err != nil || e.Status != reaper.UnknownStatus {
				t.Errorf("Wait: %+v, %v", e, err)
			}
		})
	}
}

func writePid(text string) func(string, int) {
	return func(path string, _ int) { _ = os.WriteFile(path, []byte(text), 0o600) } // seen by its reader
}

// A Create that fails because the container exists leaves that one alone, and
// still ends what it has started itself.
func TestCreateOverAnExistingContainer(t *testing.T) {
	for _, started := range []bool{false, true} {
		census(t)
		f := &fakeRuntime{exists: true, after: map[string]func(context.Context) error{"create": failing(errRuntime)}}
		if started {
			f.process = []string{"sleep"}
		}
		p := newTestInit(t, f, InitConfig{})
		if err := p.Create(t.Context()); !errors.Is(err, errRuntime) {
			t.Errorf("got %v", err)
		}
		if f.called("delete true") || f.called("delete false") {
			t.Error("the container that existed was deleted")
		}
		if started && !dead(f.lastPid()) {
			t.Error("the process of the failed Create is alive")
			_ = unix.Kill(f.lastPid(), unix.SIGKILL)
		}
	}
}

// A start that fails may be tried again.
func TestInitStartAgain(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}, after: map[string]func(context.Context) error{"start": failing(errRuntime)}}
	p := created(t, f, InitConfig{})
	if err := p.Start(t.Context()); !errors.Is(err, errRuntime) || p.Snapshot().Phase != Created {
		t.Fatalf("got %v, %v", err, p.Snapshot().Phase)
	}
	f.mu.Lock()
	f.after = nil
	f.mu.Unlock()
	if err := p.Start(t.Context()); err != nil || p.Snapshot().Phase != Running {
		t.Fatalf("got %v, %v", err, p.Snapshot().Phase)
	}
	if err := p.Start(t.Context()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("start of a running container: %v", err)
	}
}

// B19: init ends while "runc start" is at work; the phase stays Stopped.
func TestInitExitsDuringStart(t *testing.T) {
	census(t)
	verb, entered, release := held(t)
	f := &fakeRuntime{process: []string{"sleep"}, after: map[string]func(context.Context) error{"start": verb}}
	p := created(t, f, InitConfig{})
	started := make(chan error, 1)
	go func() { started <- p.Start(t.Context()) }()
	within(t, patience, "start", entered)
	if err := p.Kill(t.Context(), uint32(unix.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	p.awaitStopped(t)
	release()
	if err := <-started; err != nil {
		t.Error(err)
	}
	if s := p.Snapshot(); s.Phase != Stopped || s.Exit.Status != 137 || s.Pid == 0 {
		t.Errorf("got %+v", s)
	}
}

// B08: a verb that hangs delays neither State nor Kill, and the next verb only
// as long as its caller waits.
func TestHungVerb(t *testing.T) {
	census(t)
	verb, entered, release := held(t)
	f := &fakeRuntime{process: []string{"sleep"}, after: map[string]func(context.Context) error{"pause": verb}}
	p := running(t, f, InitConfig{})
	paused := make(chan error, 1)
	go func() {
		if err := p.Lock(t.Context()); err != nil {
			paused <- err
			return
		}
		defer p.Unlock()
		paused <- p.Pause(t.Context())
	}()
	within(t, patience, "pause", entered)

	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if phase := p.Snapshot().Phase; phase != Pausing {
			t.Errorf("phase %v", phase)
		}
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := p.Lock(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a verb behind a hung pause: %v", err)
		}
		if _, err := p.Pids(t.Context()); err != nil {
			t.Errorf("pids: %v", err)
		}
		if err := p.Resize(80, 25); err != nil {
			t.Errorf("resize: %v", err)
		}
	}()
	within(t, patience, "requests beside a hung pause", answered)
	release()
	if err := <-paused; err != nil || p.Snapshot().Phase != Paused {
		t.Errorf("pause: %v, %v", err, p.Snapshot().Phase)
	}
}

func TestKillReachesAContainerWithAHungVerb(t *testing.T) {
	census(t)
	verb, entered, _ := held(t)
	hungKill := failing(&RuntimeError{Verb: "kill", Message: "no answer", class: context.DeadlineExceeded})
	f := &fakeRuntime{process: []string{"sleep"}, after: map[string]func(context.Context) error{"update": verb, "kill": hungKill}}
	p := running(t, f, InitConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Update(ctx, nil) // its end is of no interest
	}()
	within(t, patience, "update", entered)
	if err := p.Kill(t.Context(), uint32(unix.SIGKILL), true); err != nil {
		t.Errorf("kill: %v", err)
	}
	if s := p.awaitStopped(t); s.Exit.Status != 137 {
		t.Errorf("got %+v", s)
	}
	cancel()
	<-done
}

func TestKillOfInit(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}, ignoresKillAll: true}
	p := running(t, f, InitConfig{})
	if err := p.Kill(t.Context(), 65, false); !errdefs.IsInvalidArgument(err) {
		t.Errorf("signal 65: %v", err)
	}
	other := f.startOther(t)
	f.mu.Lock()
	f.pids = []int{1, p.Snapshot().Pid, other.Pid()}
	f.mu.Unlock()
	// B63: runc from 1.2 on sends anything but SIGKILL to init only.
	if err := p.Kill(t.Context(), uint32(unix.SIGTERM), true); err != nil {
		t.Errorf("kill all: %v", err)
	}
	within(t, patience, "death of the other process", other.Done())
	if e := other.Wait(); e.Status != 128+int(unix.SIGTERM) {
		t.Errorf("the other process got %d", e.Status)
	}
	p.awaitStopped(t)
	for _, tt := range []struct {
		msg   string
		class error
		found bool
	}{
		{"container not running", errdefs.ErrNotFound, false},
		{"weird", errdefs.ErrInternal, true},
	} {
		f.mu.Lock()
		f.after = map[string]func(context.Context) error{"kill": failing(&RuntimeError{Verb: "kill", Message: tt.msg, class: tt.class})}
		f.mu.Unlock()
		err := p.Kill(t.Context(), 15, false)
		if errdefs.IsNotFound(err) == tt.found || tt.found && !strings.Contains(err.Error(), "unknown error after kill: runc kill: weird") {
			t.Errorf("%s: got %v", tt.msg, err)
		}
	}
}

// startOther starts one more process of the container.
func (f *fakeRuntime) startOther(t *testing.T) *reaper.Child {
	t.Helper()
	return proctest.Start(t, nil, "sleep")
}

// A pause that fails is undone; an exit in the middle of one stays an exit.
func TestPauseThatFails(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}, after: map[string]func(context.Context) error{"pause": failing(errRuntime)}}
	p := running(t, f, InitConfig{})
	if err := p.Pause(t.Context()); !errors.Is(err, errRuntime) || p.Snapshot().Phase != Running {
		t.Errorf("got %v, %v", err, p.Snapshot().Phase)
	}
	f.mu.Lock()
	f.after = map[string]func(context.Context) error{"pause": func(context.Context) error {
		_ = unix.Kill(f.lastPid(), unix.SIGKILL)
		p.awaitStopped(t)
		return errRuntime
	}}
	f.mu.Unlock()
	if err := p.Pause(t.Context()); !errors.Is(err, errRuntime) || p.Snapshot().Phase != Stopped {
		t.Errorf("got %v, %v", err, p.Snapshot().Phase)
	}
}

// A shim that is ended while the runtime freezes the container left it frozen, so that
// nothing in it could die.
func TestDestroyWhilePausing(t *testing.T) {
	census(t)
	verb, entered, release := held(t)
	f := &fakeRuntime{process: []string{"sleep"}, after: map[string]func(context.Context) error{"pause": verb}}
	p := running(t, f, InitConfig{})
	paused := make(chan error, 1)
	go func() { paused <- p.Pause(t.Context()) }()
	within(t, patience, "pause", entered)
	if err := p.Destroy(t.Context()); err != nil || !f.called("resume") {
		t.Errorf("got %v, %q", err, f.calls)
	}
	release()
	<-paused
}

// A start that the previous program had begun was answered with an error, and its
// container never was running, if the runtime could not be asked for want of memory.
func TestAdoptedStartIsAskedForAgain(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}, status: "running"}
	p := created(t, f, InitConfig{})
	var lacks atomic.Int32
	f.after = map[string]func(context.Context) error{"state": func(context.Context) error {
		if lacks.Add(1) > 2 {
			return nil
		}
		return &RuntimeError{Verb: "state", class: errdefs.ErrResourceExhausted, cause: &reaper.StartError{Err: unix.ENOMEM}}
	}}
	runtime := reaper.NewDead(reaper.Exit{})
	if err := p.FinishStart(t.Context(), Adoption{}, runtime, ""); err != nil || p.Snapshot().Phase != Running {
		t.Errorf("got %v, %v", err, p.Snapshot().Phase)
	}
}

func TestDestroy(t *testing.T) {
	census(t)
	verb, entered, release := held(t)
	f := &fakeRuntime{process: []string{"sleep"}, after: map[string]func(context.Context) error{"update": verb}}
	p := running(t, f, InitConfig{Stdio: Stdio{Stdout: fifo(t)}})
	updated := make(chan error, 1)
	go func() { updated <- p.Update(t.Context(), nil) }()
	within(t, patience, "update", entered)
	if err := p.Destroy(t.Context()); err != nil || p.Snapshot().Phase != Deleted || !f.called("delete true") {
		t.Errorf("got %v, %v", err, p.Snapshot().Phase)
	}
	release()
	<-updated
}
