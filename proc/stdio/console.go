// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/guard"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// Size is a terminal's size in characters.
type Size struct{ Width, Height uint16 }

// NewSize returns a size, or an error of class InvalidArgument for what does not
// fit into the unsigned shorts of struct winsize.
func NewSize(width, height uint32) (Size, error) {
	const most = 1<<16 - 1
	if width > most || height > most {
		return Size{}, errclass.Invalidf("terminal size %dx%d: more than %d", width, height, most)
	}
	return Size{uint16(width), uint16(height)}, nil
}

// console is a terminal whose master the runtime sends over a socket.
type console struct {
	socket *runc.Socket // nil for one that was adopted
	// arrived is closed when master or err is set.
	arrived chan struct{}
	err     error

	mu sync.Mutex
	// +checklocks:mu
	master *os.File // nil before it arrived and once it was closed
	// +checklocks:mu
	size *Size
}

// openTerminal makes the socket on which the master will come and opens the
// client's side.
func (s *Streams) openTerminal(c Config, t target) error {
	to, err := s.terminalSink(c, t)
	if err != nil {
		return err
	}
	if c.NewConsoleSocket == nil {
		c.NewConsoleSocket = runc.NewTempConsoleSocket
	}
	socket, err := c.NewConsoleSocket()
	if err != nil {
		to.close()
		return errclass.Internalf("open console socket: %w", err)
	}
	s.console = &console{socket: socket, arrived: make(chan struct{}), size: c.Size}
	s.mu.Lock()
	s.undrained++ // until the master has come, or it is certain that it never will
	s.mu.Unlock()
	guard.Go("receive the console", func() {
		defer s.outputDrained()
		defer close(s.console.arrived)
		master, err := s.console.receive()
		if err != nil {
			s.console.err = err
			to.close()
			return
		}
		s.attach(master, to, c.Limits)
	})
	return nil
}

// terminalSink opens the destination of a terminal's output; stderr is not used.
func (s *Streams) terminalSink(c Config, t target) (*sink, error) {
	switch {
	case t.scheme == schemeBinary:
		l, err := startLogger(t, c, false)
		if err != nil {
			return nil, err
		}
		s.log = l
		_ = l.stderr.Close() // unused
		return &sink{path: t.path, kind: isPipe, w: l.stdout, keepalive: -1}, nil
	case t.path == "":
		return openSink(os.DevNull)
	}
	return openSink(t.path)
}

// attach starts copying between the master and the client.
func (s *Streams) attach(master *os.File, to *sink, l Limits) {
	out := newOutput(master, false, to, l)
	out.inUse = out.processLives
	s.startOutput(out, s.console.close)
	if s.input != nil {
		s.startTyping(master, out)
	}
}

// startTyping copies from the client to the terminal whose output is out.
func (s *Streams) startTyping(master *os.File, out *output) {
	s.input.begin(master, true)
	guard.Go("copy input", func() {
		// At the end of its input a terminal hangs up: its processes get SIGHUP, as
		// when a user's terminal closes.
		s.input.run(func() { out.order(orders{hungUp: true}) })
	})
}

// receive waits for the master, applies the size and makes it pollable.
func (c *console) receive() (*os.File, error) {
	cons, err := c.socket.ReceiveMaster()
	if err != nil {
		return nil, errclass.Internalf("receive console: %w", err)
	}
	master, err := pollable(cons.Fd(), "console")
	_ = cons.Close() // the duplicate lives
	if err != nil {
		return nil, errclass.Internalf("receive console: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.master = master
	if c.size != nil {
		_ = setWinsize(c.master, *c.size) // a terminal always has a size
	}
	return c.master, nil
}

// ConsoleSocket returns where the runtime is to send the terminal's master; nil
// without a terminal.
func (s *Streams) ConsoleSocket() runc.ConsoleSocket {
	if s.console == nil {
		return nil
	}
	return s.console.socket
}

// AwaitConsole waits for the terminal's master, for Limits.Ready at most: the runtime
// must have sent it by the time it returns. The error is of class Internal if it
// does not come or is not a terminal. Without a terminal AwaitConsole does nothing.
func (s *Streams) AwaitConsole(ctx context.Context) error {
	c := s.console
	if c == nil {
		return nil
	}
	timer := time.NewTimer(s.limits.Ready)
	defer timer.Stop()
	select {
	case <-c.arrived:
		return c.err
	case <-timer.C:
		return errclass.Internalf("the runtime sent no console within %v", s.limits.Ready)
	case <-ctx.Done():
		return fmt.Errorf("wait for the console: %w", context.Cause(ctx))
	}
}

// closeSocket removes the socket once the runtime has returned.
func (c *console) closeSocket() {
	if c.socket != nil {
		_ = c.socket.Close() // closed twice is harmless
	}
}

// close hangs the terminal up.
func (c *console) close() {
	c.closeSocket()
	c.mu.Lock()
	master := c.master
	c.master = nil
	c.mu.Unlock()
	_ = master.Close() // nothing is buffered; nil is harmless
}

// Resize sets the size, at once or when the master comes. Without a terminal it does
// nothing.
func (s *Streams) Resize(size Size) error {
	if s.console == nil {
		return nil
	}
	c := s.console
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size = &size
	if c.master == nil {
		return nil
	}
	if err := setWinsize(c.master, size); err != nil {
		return errclass.Internalf("resize: %w", err)
	}
	return nil
}

func setWinsize(master *os.File, size Size) (err error) {
	control(master, func(fd int) {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
	})
	return err
}

// Size returns the terminal size asked for so far, nil if none or no terminal.
func (s *Streams) Size() *Size {
	if s.console == nil {
		return nil
	}
	s.console.mu.Lock()
	defer s.console.mu.Unlock()
	return s.console.size
}
