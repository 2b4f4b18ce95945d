// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	runc "github.com/containerd/go-runc"
)

var _ runc.ProcessMonitor = (*Monitor)(nil)

// output runs cmd as go-runc runs a verb: both streams into one buffer.
func output(t *testing.T, m *Monitor, cmd *exec.Cmd) (int, error, string) {
	t.Helper()
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	exits, err := m.StartLocked(cmd)
	if err != nil {
		return -1, err, ""
	}
	status, err := m.Wait(cmd, exits)
	return status, err, buf.String()
}

func TestMonitorReturnsStatusAndOutput(t *testing.T) {
	m := NewMonitor(testReaper)
	status, err, out := output(t, m, roleCmd("spew", "200000"))
	if status != 3 || err != nil {
		t.Errorf("got status %d, %v, want 3, nil", status, err)
	}
	if len(out) < 200000 {
		t.Errorf("%d bytes of output, want 200000", len(out))
	}
	if _, err := m.Start(exec.Command("/nonexistent/runc")); err == nil {
		t.Error("start of a missing binary succeeded")
	}
}

func TestMonitorBoundsOutput(t *testing.T) {
	buf := &bytes.Buffer{}
	l := &limitedWriter{buf: buf, left: 10}
	if n, err := l.ReadFrom(strings.NewReader("0123456789abcdef")); n != 16 || err != nil {
		t.Errorf("read %d, %v, want 16, nil", n, err)
	}
	if n, err := l.Write([]byte("more")); n != 4 || err != nil {
		t.Errorf("wrote %d, %v, want 4, nil", n, err)
	}
	if buf.String() != "0123456789" {
		t.Errorf("kept %q", buf)
	}
}

// B28: a process left behind keeps the output open; the answer comes at the
// command's own exit.
func TestMonitorIsNotDelayedByAnInheritedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := roleCmd("hold")
	cmd.ExtraFiles = []*os.File{r}
	type result struct {
		status int
		out    string
	}
	got := make(chan result, 1)
	go func() {
		status, _, out := output(t, NewMonitor(testReaper), cmd)
		got <- result{status, out}
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
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, childBinary, "wait", "0")
	gate, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	m := NewMonitor(testReaper)
	exits, err := m.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	status, err := m.Wait(cmd, exits)
	if status != 137 || err != nil {
		t.Errorf("got %d, %v, want 137, nil", status, err)
	}
	if _, err := m.Wait(cmd, exits); err == nil {
		t.Error("a second Wait succeeded")
	}
}

func TestMonitorDropsVariables(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	t.Setenv("NOTIFY_SOCKET_NOT", "kept")
	cmd := roleCmd("env")
	_, err, out := output(t, NewMonitor(testReaper, "NOTIFY_SOCKET", "GODEBUG"), cmd)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "NOTIFY_SOCKET=") || !strings.Contains(out, "NOTIFY_SOCKET_NOT=kept") {
		t.Errorf("environment: %s", out)
	}
}

// B64: the forking thread must not die under a command that has a parent-death
// signal, however many goroutines and threads come and go.
func TestParentDeathSignalSparesTheLiving(t *testing.T) {
	m := NewMonitor(testReaper)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			cmd := roleCmd("exit", "4")
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			exits, err := m.StartLocked(cmd)
			if err != nil {
				t.Error(err)
				return
			}
			if status, err := m.Wait(cmd, exits); status != 4 || err != nil {
				t.Errorf("got %d, %v, want 4, nil", status, err)
			}
		})
	}
	wg.Wait()
}

func TestMonitorWaitNeedsStart(t *testing.T) {
	cmd := exec.Command("true")
	status, err := NewMonitor(testReaper).Wait(cmd, nil)
	if status != UnknownStatus || err == nil || errors.Is(err, ErrUnkillable) {
		t.Errorf("got %d, %v", status, err)
	}
}
