// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/reaper"

	"golang.org/x/sys/unix"
)

// refuse makes the streams stand still and go on, as an exchange does that is
// refused.
func refuse(t *testing.T, g *gate.Gate, s *Streams) {
	t.Helper()
	g.Shut()
	s.Interrupt()
	if !wait.Until(patience, func() bool { return g.Inside() == 0 }) {
		t.Fatal("the streams do not stand still")
	}
	g.Open()
}

// TestLateClientAfterARefusedExchange: the interrupt is not the end of the input,
// for which the client is still waited.
func TestLateClientAfterARefusedExchange(t *testing.T) {
	census(t)
	in, out := fifo(t), fifo(t)
	g, limits := new(gate.Gate), short()
	limits.InputGrace = patience
	p, err := Open(Config{Names: Names{Stdin: in, Stdout: out}, Limits: limits, Gate: g})
	if err != nil {
		t.Fatal(err)
	}
	p.CloseInput()
	if err := p.HoldInput(); err != nil {
		t.Fatal(err)
	}
	c := attach(t, out)
	child := p.play(t, "cat")
	for range 3 {
		if !wait.Until(patience, func() bool { return waitsIn("awaitClient") }) {
			t.Fatal("the shim does not wait for the client")
		}
		refuse(t, g, p)
	}
	w := openFifo(t, in, os.O_WRONLY)
	if _, err := w.WriteString("hello\n"); err != nil {
		t.Error(err)
	}
	_ = w.Close() // what was written is in the FIFO
	p.end(t, child)
	if got := c.All(t); got != "hello\n" {
		t.Errorf("the process read %q", got)
	}
}

// TestTypedInputAfterARefusedExchange: what was typed, and is not read yet, does not
// become a hang-up by the interrupt, although the client is gone.
func TestTypedInputAfterARefusedExchange(t *testing.T) {
	census(t)
	in, out := fifo(t), fifo(t)
	g, limits := new(gate.Gate), short()
	limits.Stubborn = patience
	p, err := Open(Config{Names: Names{Stdin: in, Stdout: out, Terminal: true}, Limits: limits, Gate: g})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.HoldInput(); err != nil {
		t.Fatal(err)
	}
	r := attach(t, out)
	w := openFifo(t, in, os.O_WRONLY)
	child := p.play(t, "sleep")
	_ = w.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)) // fails only if closed
	if n, err := w.WriteString(strings.Repeat("x\n", 100000)); err == nil {
		t.Fatalf("%d bytes fit the input", n)
	}
	_ = w.Close() // the client goes
	p.CloseInput()
	for range 3 {
		ended := false
		if !wait.Until(patience, func() bool {
			select {
			case <-child.Done():
				ended = true
			default:
			}
			return ended || waitsIn("writePending")
		}) || ended {
			t.Fatalf("hung up (%v), or the input is not waited for", ended)
		}
		refuse(t, g, p)
	}
	_ = child.Signal(unix.SIGKILL) // it lives
	p.end(t, child)
	r.All(t)
}

// TestHangUpDuringAnExchange: the end of what is typed is never neither an input nor a
// hang-up, which would be lost.
func TestHangUpDuringAnExchange(t *testing.T) {
	client, w := pipes(t)
	_, terminal := pipes(t)
	g := new(gate.Gate)
	i := &input{r: client, fifo: true, limits: short(), gate: g, decided: make(chan struct{}), decision: toHold, keepalive: -1}
	close(i.decided)
	i.begin(terminal, true)
	_ = w.Close() // the client goes
	between := make(chan int, 1)
	i.run(func() {
		g.Shut()
		between <- g.Inside()
	})
	select {
	case n := <-between:
		if n != 1 {
			t.Errorf("%d are inside the gate when the terminal hangs up, want 1", n)
		}
	default:
		t.Error("the terminal does not hang up")
	}
	if i.save() != nil || g.Inside() != 0 {
		t.Errorf("after it: %+v, %d inside", i.save(), g.Inside())
	}
}

// TestExchangeBetweenATerminalsEndAndItsInputs: the output has closed the terminal, and
// the input does not know yet. What is saved must be complete: an input without a
// terminal is not.
func TestExchangeBetweenATerminalsEndAndItsInputs(t *testing.T) {
	census(t)
	in, out := fifo(t), fifo(t)
	g := new(gate.Gate)
	p, err := Open(Config{Names: Names{Stdin: in, Stdout: out, Terminal: true}, Limits: short(), Gate: g})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.HoldInput(); err != nil {
		t.Fatal(err)
	}
	r := attach(t, out)
	child := p.play(t, "exit", "0")
	within(t, patience, "exit", child.Done())
	p.order(orders{exited: time.Now()}) // the first half of ProcessExited
	if !wait.Until(patience, func() bool {
		p.console.mu.Lock()
		defer p.console.mu.Unlock()
		return p.console.master == nil
	}) {
		t.Fatal("the terminal is not closed")
	}
	g.Shut()
	p.Interrupt()
	if !wait.Until(patience, func() bool { return g.Inside() == 0 }) {
		t.Fatal("the streams do not stand still")
	}
	st, err := p.Save()
	if err != nil || st != nil && st.Input != nil {
		t.Errorf("saved %+v (%v), want no input", st, err)
	}
	g.Open()
	p.end(t, child)
	r.All(t)
}

// TestLoggerThatDiesDuringAnExchange: its descriptors are exchanged only when the
// streams go on.
func TestLoggerThatDiesDuringAnExchange(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	synctest.Test(t, func(t *testing.T) {
		g := new(gate.Gate)
		l := &logger{gate: g, stopped: make(chan struct{}), child: reaper.NewDead(reaper.Exit{Pid: 1, Status: 1})}
		g.Shut()
		l.keep([]*os.File{r})
		synctest.Wait()
		before := l.save()
		if before == nil || len(before.Pipes) != 1 || int(before.Pipes[0]) != int(r.Fd()) {
			t.Errorf("while all stands still: %+v, want descriptor %d", before, r.Fd())
		}
		close(l.stopped)
		synctest.Wait()
		if l.kept()[0] != r || fdOf(r) == 0 {
			t.Error("closed while all stands still")
		}
		g.Open()
		synctest.Wait()
		if fdOf(r) != 0 {
			t.Error("it stays open")
		}
	})
}
