// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/reaper"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestExecLife(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	f.process = []string{"cat"}
	in, out := fifo(t), fifo(t)
	p := newTestExec(t, init, "e1", Stdio{Stdin: in, Stdout: out})
	if err := p.Kill(9); !errdefs.IsFailedPrecondition(err) { // B34
		t.Errorf("kill before the start: %v", err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := attach(t, out)
	w := openFifo(t, in, os.O_WRONLY)
	if _, err := w.WriteString("hello\n"); err != nil {
		t.Error(err)
	}
	_ = w.Close() // it is in the FIFO
	if s := p.Snapshot(); s.Phase != Running || s.Pid != f.lastPid() {
		t.Errorf("started: %+v", s)
	}
	if err := p.Delete(t.Context()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("delete of a running exec: %v", err)
	}
	p.CloseStdin()
	if s := p.awaitStopped(t); s.Exit.Status != 0 || s.Exit.At.IsZero() {
		t.Errorf("exit %+v", s)
	}
	if err := p.Kill(9); !errdefs.IsNotFound(err) {
		t.Errorf("kill after the exit: %v", err)
	}
	if err := p.Resize(1, 1); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("resize after the exit: %v", err)
	}
	if got := c.All(t); got != "hello\n" {
		t.Errorf("output %q", got)
	}
	if err := p.Delete(t.Context()); err != nil || p.Snapshot().Phase != Deleted {
		t.Errorf("delete: %v, %v", err, p.Snapshot().Phase)
	}
	if _, err := os.Stat(p.pidFile()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pid file: %v", err)
	}
}

// B09, B24, B42: a start that fails leaves no process, ends Wait, and may be
// repeated any number of times until it succeeds.
func TestExecStartAgain(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	out := fifo(t)
	p := newTestExec(t, init, "e1", Stdio{Stdout: out})
	f.after = map[string]func(context.Context) error{"exec": failing(errRuntime)}
	for range 3 {
		err := p.Start(t.Context())
		if !errors.Is(err, errRuntime) || p.Snapshot().Phase != Created {
			t.Fatalf("got %v, %v", err, p.Snapshot().Phase)
		}
		if !dead(f.lastPid()) {
			t.Error("the process is alive")
		}
		if e, err := p.Wait(t.Context()); err != nil || e.Status != reaper.UnknownStatus {
			t.Errorf("Wait: %+v, %v", e, err)
		}
	}
	f.after = nil
	f.process = []string{"exit", "5"}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := attach(t, out)
	if s := p.awaitStopped(t); s.Exit.Status != 5 {
		t.Errorf("exit %+v", s)
	}
	c.All(t)
}

// B24: no pid file, or another's pid in it.
func TestExecWithABadPidFile(t *testing.T) {
	for name, pidFile := range map[string]func(string, int){
		"none": func(string, int) {}, "garbage": writePid("x"), "nobody's": writePid("4194303"),
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			f := &fakeRuntime{process: []string{"sleep"}}
			init := running(t, f, InitConfig{})
			f.pidFile = pidFile
			p := newTestExec(t, init, "e1", Stdio{})
			if err := p.Start(t.Context()); !errdefs.IsInternal(err) {
				t.Errorf("got %v", err)
			}
			if !dead(f.lastPid()) {
				t.Error("the process is alive")
				_ = unix.Kill(f.lastPid(), unix.SIGKILL)
			}
			if files, _ := filepath.Glob(filepath.Join(init.Bundle(), "e1*")); len(files) > 0 {
				t.Errorf("left %v", files)
			}
		})
	}
}

// B19: the exec has ended before the runtime has returned.
func TestExecExitsDuringStart(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	f.process = []string{"exit", "7"}
	f.after = map[string]func(context.Context) error{"exec": func(context.Context) error {
		if !dead(f.lastPid()) {
			return errors.New("it lives")
		}
		return nil
	}}
	p := newTestExec(t, init, "e1", Stdio{})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.awaitStopped(t)
	if !wait.Until(patience, func() bool { return p.Snapshot().Phase == Stopped }) || p.Snapshot().Exit.Status != 7 {
		t.Errorf("got %+v", p.Snapshot())
	}
}

// B08: an exec that hangs in its start delays no other and no State.
func TestHungExecStart(t *testing.T) {
	census(t)
	verb, entered, release := held(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	f.after = map[string]func(context.Context) error{"exec": verb}
	p := newTestExec(t, init, "e1", Stdio{})
	started := make(chan error, 1)
	go func() { started <- p.Start(t.Context()) }()
	within(t, patience, "exec", entered)
	if s := p.Snapshot(); s.Phase != Created {
		t.Errorf("phase %v", s.Phase)
	}
	if err := p.Kill(9); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("kill: %v", err)
	}
	if err := init.Pause(t.Context()); err != nil {
		t.Errorf("pause of the container: %v", err)
	}
	release()
	if err := <-started; err != nil || p.Snapshot().Phase != Running {
		t.Errorf("got %v, %v", err, p.Snapshot().Phase)
	}
}

// B42: an exec that is deleted without having been started ends Wait.
func TestDeleteOfAnExecNeverStarted(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	p := newTestExec(t, running(t, f, InitConfig{}), "e1", Stdio{})
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if e, err := p.Wait(t.Context()); err != nil || e.Status != reaper.UnknownStatus {
		t.Errorf("Wait: %+v, %v", e, err)
	}
	if err := p.Start(t.Context()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("start after delete: %v", err)
	}
}

func TestBrokenExecSpec(t *testing.T) {
	init := newTestInit(t, &fakeRuntime{}, InitConfig{})
	for _, spec := range []string{"", "{", "null", "[]", "{}", `{"args":[]}`, `{"args":"sh"}`, "\xff"} {
		if _, err := NewExec(init, "e1", Stdio{}, []byte(spec)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("spec %q: %v", spec, err)
		}
	}
	p, err := NewExec(init, "e1", Stdio{Terminal: true}, []byte(`{"args":["x"],"terminal":false}`))
	if err != nil || !p.spec.Terminal {
		t.Errorf("the request's terminal does not win: %v", err)
	}
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{"a", "init", "A-b_c.d", "0123", "shim", strings.Repeat("x", 200), "ä"} {
		if err := CheckID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", ".", "..", "../x", "a/b", "/", "-x", "--root", "a\nb", "a\x00b", ".exec-init", strings.Repeat("x", 201)} {
		if err := CheckID(id); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// No exec's pid file is a file that containerd or the container's init has.
func TestExecPidFileNames(t *testing.T) {
	seen := map[string]string{"init.pid": "the container's", "shim.pid": "containerd's"}
	for _, id := range []string{"init", "shim", "e1", "address", "config.json", "exec-init"} {
		name := execPidFile(id)
		if owner, taken := seen[name]; taken {
			t.Errorf("exec %s would write %s, which is %s", id, name, owner)
		}
		seen[name] = "exec " + id
	}
}
