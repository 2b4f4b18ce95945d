// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/proc/internal/proctest"
	"containerd-shim.v1/reaper"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// F4: a bundle whose file system takes no file any more. Kill, Delete and what
// else needs none do their work; only an exec, which needs one, fails.
func TestRuntimeNeedsNoLogFile(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"no inode": func(dir string) error {
			var st unix.Statfs_t
			if err := unix.Statfs(dir, &st); err != nil {
				return err
			}
			for i := range st.Ffree {
				if err := os.WriteFile(filepath.Join(dir, strconv.FormatUint(i, 10)), nil, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		"no space": func(dir string) error {
			err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 1<<20), 0o600)
			if !errors.Is(err, unix.ENOSPC) {
				return fmt.Errorf("fill the disk: %v", err)
			}
			return nil
		},
		"read-only": func(dir string) error { return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") },
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,nr_inodes=20"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // nothing is open in it
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			good, path := scripted(t, `exit 0`)
			bad, badPath := scripted(t, `
[ -n "$log" ] && { echo '{"level":"error","msg":"logged"}' >> $log || exit 3; exit 1; } 2>/dev/null
echo '{"level":"error","msg":"said"}' >&2; exit 1`)
			for _, r := range []Runtime{good, bad} {
				r.(*runcRuntime).Dir = dir
			}
			if err := firstError(good.Kill(t.Context(), "c1", 9, false), good.Delete(t.Context(), "c1", false)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			if err := bad.Kill(t.Context(), "c1", 9, false); err == nil ||
				name != "no space" && !strings.HasSuffix(err.Error(), "runc kill: said") { // there it has a log, of 0 bytes
				t.Errorf("%s: got %v, want what it said", badPath, err)
			}
			err := good.Exec(t.Context(), "c1", specs.Process{}, ExecCall{})
			if !neverRan(err) || name != "read-only" && !errdefs.IsResourceExhausted(err) {
				t.Errorf("exec: got %v, want ResourceExhausted", err)
			}
		})
	}
}

// F5: the runtime is gone, or cannot be started; the container's init is the
// shim's child all the same.
func TestKillWithoutARuntime(t *testing.T) {
	gone := &RuntimeError{Verb: "kill", Message: "gone", class: errdefs.ErrFailedPrecondition, cause: &reaper.StartError{Err: unix.EAGAIN}}
	failed := &RuntimeError{Verb: "kill", Message: "failed", class: errdefs.ErrInternal}
	for name, tt := range map[string]struct {
		err  error
		sig  unix.Signal
		dies bool
	}{
		"not started, SIGTERM": {gone, unix.SIGTERM, true},
		"not started, SIGKILL": {gone, unix.SIGKILL, true},
		"failed, SIGKILL":      {failed, unix.SIGKILL, true},
		"failed, SIGTERM":      {failed, unix.SIGTERM, false},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			f := &fakeRuntime{process: []string{"sleep"}}
			p := running(t, f, InitConfig{})
			f.after = map[string]func(context.Context) error{"kill": failing(tt.err)}
			if err := p.Kill(t.Context(), uint32(tt.sig), false); (err == nil) != tt.dies {
				t.Errorf("got %v", err)
			}
			if tt.dies {
				if got, want := p.awaitStopped(t).Exit.Status, 128+int(tt.sig); got != want {
					t.Errorf("status %d, want %d", got, want)
				}
			}
		})
	}
}

// F14: only the shim's own children are looked at, of whatever thread, and no
// file is read for each of them: what they cost is not what /proc holds.
func TestChildrenAreTheShimsOwn(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	p := running(t, f, InitConfig{})
	var want []int
	for i := range 100 {
		e := newTestExec(t, p, fmt.Sprint("e", i), Stdio{})
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		want = append(want, e.Child().Pid())
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := reads(t)
	pids := children(t.Context())
	took := reads(t) - before
	threads, err := filepath.Glob("/proc/self/task/*")
	if most := 3*len(threads) + 20; err != nil || took > most {
		t.Errorf("%d calls of read with %d threads, want at most %d (%v)", took, len(threads), most, err)
	}
	for _, pid := range append(want, p.Child().Pid()) {
		if !slices.Contains(pids, pid) {
			t.Errorf("got %v, want %d in it", pids, pid)
		}
	}
	for _, pid := range pids {
		if got := parentOf(t.Context(), pid); got != os.Getpid() && got != 0 {
			t.Errorf("%d is a child of %d", pid, got)
		}
	}
}

// reads returns how often this thread has called read(2) so far (proc(5), io).
func reads(t *testing.T) (n int) {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if _, err := fmt.Sscanf(line, "syscr: %d", &n); err == nil {
			return n
		}
	}
	t.Fatalf("no syscr: %s", data)
	return 0
}

// F18: a start that never forked has left no process, so none is looked for.
func TestStartThatNeverForkedHasNoStray(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}, pidFile: func(string, int) {}}
	f.after = map[string]func(context.Context) error{"create": failing(&reaper.StartError{Err: unix.EAGAIN})}
	p := newTestInit(t, f, InitConfig{})
	ticket := proctest.Reaper.Begin()
	defer ticket.Close()
	if err := p.Create(t.Context()); !neverRan(err) {
		t.Errorf("got %v", err)
	}
	child, err := ticket.Claim(f.lastPid(), time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-child.Done():
		t.Error("a process with the start's streams was looked for, and killed")
	default:
	}
	p.env.killAndWait(child)
}

// Of a process that has forked and died before its start failed, nobody is left.
func TestEveryStrayIsKilled(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	f.process, f.pidFile = []string{"leave", "3"}, func(string, int) {}
	f.after = map[string]func(context.Context) error{"exec": func(context.Context) error {
		if !wait.Until(patience, func() bool { return len(children(t.Context())) == 4 && dead(f.lastPid()) }) {
			return fmt.Errorf("children: %v", children(t.Context()))
		}
		return nil
	}}
	if err := newTestExec(t, init, "e1", Stdio{}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("got %v", err)
	}
	if !wait.Until(patience, func() bool { return len(children(t.Context())) == 1 }) {
		t.Errorf("children: %v, want init", children(t.Context()))
	}
}

// F22: a runtime that was killed before it gave its pid file its name leaves a
// file that the next one does not write over.
func TestHalfAPidFileIsRemoved(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	temporary := func(path string) string { return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)) }
	f.pidFile = func(path string, pid int) {
		file, err := os.OpenFile(temporary(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = file.WriteString(strconv.Itoa(pid))
		}
		if err == nil {
			err = errors.Join(file.Close(), os.Rename(temporary(path), path))
		}
		if err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"e1", "init", "shim"} {
		e := newTestExec(t, init, id, Stdio{})
		if err := os.WriteFile(temporary(e.pidFile()), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := e.Start(t.Context()); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	// And afterwards.
	whole := f.pidFile
	f.pidFile = func(path string, pid int) {
		if err := os.WriteFile(temporary(path), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	e := newTestExec(t, init, "e2", Stdio{})
	if err := e.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "had been started and was killed") {
		t.Errorf("a start without a pid file: got %v, want that its process had been started", err)
	}
	if _, err := os.Lstat(temporary(e.pidFile())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	f.pidFile = whole
	if err := e.Start(t.Context()); err != nil {
		t.Errorf("the same exec again: %v", err)
	}
}

// No pid file of an exec, nor what a runtime writes before it, is another's.
func TestPidFilesDiffer(t *testing.T) {
	owner := map[string]string{"init.pid": "the container", ".init.pid": "the container", "shim.pid": "containerd"}
	for _, id := range []string{"e1", "init", "shim", "exec-init", "init.pid", "exec-shim"} {
		for _, name := range []string{execPidFile(id), "." + execPidFile(id)} {
			if other, taken := owner[name]; taken {
				t.Errorf("%s is of %s and of %s", name, id, other)
			}
			owner[name] = id
		}
	}
}

// A runtime call that is ended for a cause says so, with its class. One that was not even
// begun is not called cancelled, either: that would be by the client.
func TestKilledForACause(t *testing.T) {
	r, _ := scripted(t, "exec sleep 1000")
	died := fmt.Errorf("the container has died: %w", errdefs.ErrFailedPrecondition)
	later, end := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { end(died) })
	before, ended := context.WithCancelCause(t.Context())
	ended(died)
	for _, ctx := range []context.Context{later, before} {
		err := r.Pause(ctx, "c1")
		if !errdefs.IsFailedPrecondition(err) || errdefs.IsUnavailable(err) || errors.Is(err, context.Canceled) ||
			!strings.Contains(err.Error(), "killed: the container has died") {
			t.Errorf("got %v", err)
		}
	}
}

// Nor is a start that has to wait for its console.
func TestConsoleIsNotAwaitedForACause(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}, noConsole: true}
	ctx, end := context.WithCancelCause(t.Context())
	f.after = map[string]func(context.Context) error{"create": func(context.Context) error {
		end(fmt.Errorf("the container has died: %w", errdefs.ErrFailedPrecondition))
		return nil
	}}
	p := newTestInit(t, f, InitConfig{Stdio: Stdio{Stdout: fifo(t), Terminal: true}})
	if err := p.Create(ctx); !errdefs.IsFailedPrecondition(err) || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
