// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// B33: a size asked for before the start is in the spec that the runtime gets;
// one asked for later is on the terminal.
func TestResizeBeforeStart(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	out := fifo(t)
	p := newTestExec(t, init, "e1", Stdio{Stdout: out, Terminal: true})
	if err := p.Resize(123, 45); err != nil {
		t.Fatal(err)
	}
	f.process = []string{"onwinch", "80x25"}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := f.spec.ConsoleSize; s == nil || s.Width != 123 || s.Height != 45 {
		t.Errorf("console size in the spec: %+v", s)
	}
	c := attach(t, out)
	if !wait.Until(patience, func() bool { return c.Text() != "" }) { // it is ready
		t.Fatal("no output")
	}
	if err := p.Resize(80, 25); err != nil {
		t.Error(err)
	}
	p.awaitStopped(t)
	if got := c.All(t); !strings.Contains(got, "80x25") {
		t.Errorf("the process saw %q", got)
	}
	if err := p.process.Resize(1<<16, 1); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a size that does not fit: %v", err)
	}
}

// B35: the end of stdin hangs the terminal up; what the process wrote before
// arrives. B37: descriptors are back at once (census).
func TestEndOfStdinHangsUp(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	in, out := fifo(t), fifo(t)
	f.process = []string{"cat"}
	p := newTestExec(t, init, "e1", Stdio{Stdin: in, Stdout: out, Terminal: true})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, w := attach(t, out), openFifo(t, in, os.O_WRONLY)
	if _, err := w.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	if !wait.Until(patience, func() bool { return strings.Count(c.Text(), "hello") == 2 }) { // the echo and cat's
		t.Errorf("%q came back", c.Text())
	}
	_ = w.Close() // it was read
	p.CloseStdin()
	if s := p.awaitStopped(t); s.Exit.Status != 128+int(unix.SIGHUP) {
		t.Errorf("got %+v, want a SIGHUP", s.Exit)
	}
	if got := c.All(t); strings.Count(got, "hello\r\n") != 2 {
		t.Errorf("got %q", got)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// A process that lets go of its terminal for a while, as systemd does for each
// message, is not hung up.
func TestTerminalThatNobodyHasOpenForAWhile(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	out := fifo(t)
	f.process = []string{"reopen"}
	p := newTestExec(t, init, "e1", Stdio{Stdout: out, Terminal: true})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := attach(t, out)
	if s := p.awaitStopped(t); s.Exit.Status != 5 {
		t.Errorf("got %+v, want status 5", s.Exit)
	}
	if got := c.All(t); got != "before\r\nafter\r\n" {
		t.Errorf("got %q", got)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// A runtime that returns without having sent a console fails the start in
// bounded time.
func TestConsoleNeverComes(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	p := newTestExec(t, init, "e1", Stdio{Stdin: fifo(t), Stdout: fifo(t), Terminal: true})
	f.noConsole = true
	start := time.Now()
	if err := p.Start(t.Context()); !errdefs.IsInternal(err) || !strings.Contains(err.Error(), "sent no console") {
		t.Errorf("got %v", err)
	}
	if !dead(f.lastPid()) {
		t.Error("the process is alive")
	}
	if d := time.Since(start); d > shortLimits().Ready+time.Second {
		t.Errorf("took %v", d)
	}
}
