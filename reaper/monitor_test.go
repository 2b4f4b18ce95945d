// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"

	"golang.org/x/sys/unix"
)

func role(args ...string) Command { return Command{Args: append([]string{childBinary}, args...)} }

func newTestMonitor(dropEnv ...string) *Monitor {
	return NewMonitor(testReaper, DefaultLimits(), dropEnv...)
}

func TestMonitorReturnsStatusAndOutput(t *testing.T) {
	out, status, err := newTestMonitor().Run(t.Context(), role("spew", "200000"))
	if status != 3 || err != nil {
		t.Errorf("got status %d, %v, want 3, nil", status, err)
	}
	if len(out) < 200000 {
		t.Errorf("%d bytes of output, want 200000", len(out))
	}
}

func TestMonitorBoundsOutput(t *testing.T) {
	l := DefaultLimits()
	l.MaxOutput = 700
	out, status, err := NewMonitor(testReaper, l).Run(t.Context(), role("spew", "200000"))
	if len(out) != 700 || status != 3 || err != nil {
		t.Errorf("got %d bytes, status %d, %v, want 700, 3, nil", len(out), status, err)
	}
}

func TestMonitorGivesInput(t *testing.T) {
	for _, size := range []int{60 << 10, 1 << 20} { // a pipe holds 64 KiB unless told otherwise
		c := role("cat")
		c.Input = []byte(strings.Repeat("x", size))
		out, status, err := newTestMonitor().Run(t.Context(), c)
		if string(out) != string(c.Input) || status != 0 || err != nil {
			t.Errorf("%d bytes: got %d, status %d, %v", size, len(out), status, err)
		}
	}
}

// What cannot be started says so by its type, and leaves nothing open.
func TestMonitorStartErrors(t *testing.T) {
	dir := t.TempDir()
	plain, garbage := filepath.Join(dir, "plain"), filepath.Join(dir, "garbage")
	if err := errors.Join(os.WriteFile(plain, []byte("x"), 0o600), os.WriteFile(garbage, []byte("x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	m := newTestMonitor()
	for name, tt := range map[string]struct {
		ctx  context.Context
		path string
		want error
	}{
		"missing":        {t.Context(), filepath.Join(dir, "missing"), fs.ErrNotExist},
		"a directory":    {t.Context(), dir, unix.EISDIR},
		"not executable": {t.Context(), plain, fs.ErrPermission},
		"no program":     {t.Context(), garbage, unix.ENOEXEC},
		"too late":       {ended, childBinary, context.Canceled},
	} {
		before := openFiles(t)
		_, _, err := m.Run(tt.ctx, Command{Args: []string{tt.path, "exit", "0"}})
		if !errors.As(err, new(*StartError)) || !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want a StartError of %v", name, err, tt.want)
		}
		// A look at the program may outlast the call.
		if !wait.Until(10*time.Second, func() bool { return openFiles(t) <= before }) {
			t.Errorf("%s: %d open files, were %d", name, openFiles(t), before)
		}
	}
}

// Beyond fs.epoll.max_user_watches, or without memory for one more, a read of a pipe had
// no deadline, and nothing ended a command that hung.
func TestMonitorWithoutPoller(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out, status, err := newTestMonitor().Run(ctx, role("unpolled"))
	if string(out) != "said\n3 <nil>\nsaid\n137 <nil>\n" || status != 0 || err != nil {
		t.Errorf("got %q, status %d, %v", out, status, err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Issue 13, to be settled: an execve that stalls on a hung file system must hold
// up neither the calls of other programs nor, for from fork to exec a thread of
// the Go scheduler waits in the kernel, the garbage collector. A fanotify
// listener that does not answer plays the server that is gone.
func TestMonitorSurvivesAHungFileSystem(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	data, err := os.ReadFile(childBinary)
	if err == nil {
		err = os.WriteFile(program, data, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	listener, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() { _ = unix.Close(listener) }) // lets everything pass
	defer release()
	if err := unix.FanotifyMark(listener, unix.FAN_MARK_ADD, unix.FAN_OPEN_PERM, unix.AT_FDCWD, program); err != nil {
		t.Fatal(err)
	}
	m := newTestMonitor()
	hung, cancel := context.WithCancel(t.Context())
	defer cancel()
	results := make(chan error, 3)
	for range cap(results) {
		go func() {
			_, _, err := m.Run(hung, Command{Args: []string{program, "exit", "0"}})
			results <- err
		}()
	}
	if !wait.Until(10*time.Second, func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.looks[program] != nil }) {
		t.Fatal("nobody looks at the program")
	}
	if _, status, err := m.Run(t.Context(), role("exit", "7")); status != 7 || err != nil {
		t.Errorf("another program meanwhile: %d, %v", status, err)
	}
	cancel()
	for range cap(results) {
		if err := <-results; !errors.As(err, new(*StartError)) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want a StartError at the context's end", err)
		}
	}
	release()
	if !wait.Until(10*time.Second, func() bool {
		_, status, err := m.Run(t.Context(), Command{Args: []string{program, "exit", "5"}})
		return status == 5 && err == nil
	}) {
		t.Error("the file system is back, and the program still does not run")
	}
}

// B28: a process left behind keeps the output open; the answer comes at the
// command's own exit.
func TestMonitorIsNotDelayedByAnInheritedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := role("hold")
	c.Files = []*os.File{nil, nil, nil, r}
	type result struct {
		status int
		out    string
	}
	got := make(chan result, 1)
	go func() {
		out, status, _ := newTestMonitor().Run(t.Context(), c)
		got <- result{status, string(out)}
	}()
	select {
	case res := <-got: // while the holder lives: its gate is still open
		if res.status != 0 || res.out != "left\n" {
			t.Errorf("got %+v, want 0 and what was written", res)
		}
	case <-time.After(20 * time.Second):
		t.Error("waited for the process that holds the pipe")
	}
	from := testReaper.Reaped()
	_ = r.Close()
	_ = w.Close()
	reapedAfter(t, from, 1)
}

func TestMonitorKillsAtTheDeadline(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c := role("wait", "0")
	c.Files = []*os.File{r}
	ctx, cancel := context.WithCancel(t.Context())
	c.Started = func() { cancel(); _ = r.Close() }
	_, status, err := newTestMonitor().Run(ctx, c)
	if status != 137 || err != nil {
		t.Errorf("got %d, %v, want 137, nil", status, err)
	}
}

// The end of the context is noticed at once while output is collected, not at
// the next look: here that would be an hour later.
func TestMonitorKillsAtOnceWhileItCollects(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	l := DefaultLimits()
	l.OutputGrace = time.Hour
	c := role("wait", "0")
	c.Files = []*os.File{r}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.Started = func() { time.AfterFunc(50*time.Millisecond, cancel) } // while it waits for output
	got := make(chan int, 1)
	go func() {
		_, status, _ := NewMonitor(testReaper, l).Run(ctx, c)
		got <- status
	}()
	select {
	case status := <-got:
		if status != 137 {
			t.Errorf("status %d, want 137", status)
		}
	case <-time.After(10 * time.Second):
		t.Error("the command outlives its context")
	}
}

func TestMonitorDropsVariables(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	t.Setenv("NOTIFY_SOCKET_NOT", "kept")
	out, _, err := newTestMonitor("NOTIFY_SOCKET", "GODEBUG").Run(t.Context(), role("env"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "NOTIFY_SOCKET=") || !strings.Contains(string(out), "NOTIFY_SOCKET_NOT=kept") {
		t.Errorf("environment: %s", out)
	}
}

// B64: the forking thread must not die under a command that has a parent-death
// signal, however many goroutines and threads come and go.
func TestParentDeathSignalSparesTheLiving(t *testing.T) {
	m := newTestMonitor()
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			c := role("exit", "4")
			c.Pdeathsig = unix.SIGKILL
			if _, status, err := m.Run(t.Context(), c); status != 4 || err != nil {
				t.Errorf("got %d, %v, want 4, nil", status, err)
			}
		})
	}
	wg.Wait()
}
