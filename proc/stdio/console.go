// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"containerd-shim/guard"
	"containerd-shim/proc/internal/errclass"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// Size is a terminal's size in characters.
type Size struct{ Width, Height uint16 }

// NewSize refuses what struct winsize, with its unsigned shorts, cannot hold.
func NewSize(width, height uint32) (Size, error) {
	const most = 1<<16 - 1
	if width > most || height > most {
		return Size{}, errclass.Invalidf("terminal size %dx%d: more than %d", width, height, most)
	}
	return Size{uint16(width), uint16(height)}, nil
}

// console is a terminal whose master the runtime sends over a socket.
type console struct {
	socket *runc.Socket
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
func (p *Streams) openTerminal(c Config, t target) error {
	out, err := p.terminalOutput(c, t)
	if err != nil {
		return err
	}
	if c.NewConsoleSocket == nil {
		c.NewConsoleSocket = runc.NewTempConsoleSocket
	}
	socket, err := c.NewConsoleSocket()
	if err != nil {
		out.close()
		return errclass.Internalf("open console socket: %w", err)
	}
	p.console = &console{socket: socket, arrived: make(chan struct{}), size: c.Size}
	p.outputs.Add(1) // held until the master is there, or never will be
	guard.Go("receive the console", func() {
		defer p.outputs.Done()
		defer close(p.console.arrived)
		master, err := p.console.receive()
		if err != nil {
			p.console.err = err
			out.close()
			return
		}
		p.attach(c, master, out)
	})
	return nil
}

// terminalOutput opens what a terminal's output goes to; stderr has no part.
func (p *Streams) terminalOutput(c Config, t target) (*output, error) {
	switch {
	case t.scheme == schemeBinary:
		l, err := startLogger(t, c, false)
		if err != nil {
			return nil, err
		}
		p.log = l
		_ = l.stderr.Close() // unused
		return &output{path: t.path, w: l.stdout, keep: -1}, nil
	case t.path == "":
		return openOutput(os.DevNull, c.Limits)
	}
	return openOutput(t.path, c.Limits)
}

// attach starts copying between the master and the client.
func (p *Streams) attach(c Config, master *os.File, out *output) {
	pump := newPump(master, out.w, false)
	hangup := func() {}
	if p.input != nil {
		// At the end of its input a terminal hangs up: its processes get
		// SIGHUP, as when a user's terminal closes. What they wrote is read
		// before: the output pump is cut, not the master closed under it.
		hangup = func() { _ = master.SetReadDeadline(time.Unix(1, 0)) } // fails only if closed
		p.startInput(c, master, false, func() {
			select {
			case <-p.exited.c: // the output ends by itself
			default:
				hangup()
			}
		})
	}
	p.startOutput(pump, out, func() {
		flush(master, out.w)
		p.console.close()
	})
}

// flush copies what is in the terminal now, without waiting for more.
func flush(master, w *os.File) {
	_ = master.SetReadDeadline(time.Time{}) // fails only if closed
	rc, err := master.SyscallConn()
	if err != nil {
		return
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		n := 0
		// Ends at EAGAIN and at EIO alike.
		_ = rc.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), *buf) })
		if n <= 0 {
			return
		}
		if _, err := w.Write((*buf)[:n]); err != nil {
			return
		}
	}
}

// receive waits for the master, applies the size and makes it pollable.
func (c *console) receive() (*os.File, error) {
	cons, err := c.socket.ReceiveMaster()
	if err != nil {
		return nil, errclass.Internalf("receive console: %w", err)
	}
	// The console package's file is a blocking one; its descriptor is taken over.
	fd, err := unix.FcntlInt(cons.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	_ = cons.Close() // the duplicate lives
	if err != nil {
		return nil, errclass.Internalf("receive console: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, errclass.Internalf("receive console: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.master = os.NewFile(uintptr(fd), "console")
	if c.size != nil {
		_ = setWinsize(c.master, *c.size) // a terminal always has a size
	}
	return c.master, nil
}

// ConsoleSocket returns where the runtime is to send the terminal's master; nil
// without a terminal.
func (p *Streams) ConsoleSocket() runc.ConsoleSocket {
	if p.console == nil {
		return nil
	}
	return p.console.socket
}

// AwaitConsole waits until the terminal's master has come, which the runtime
// must have sent by the time it returns. Without a terminal it does nothing.
func (p *Streams) AwaitConsole(ctx context.Context) error {
	c := p.console
	if c == nil {
		return nil
	}
	timer := time.NewTimer(p.limits.Console)
	defer timer.Stop()
	select {
	case <-c.arrived:
		return c.err
	case <-timer.C:
		return errclass.Internalf("the runtime sent no console within %v", p.limits.Console)
	case <-ctx.Done():
		return fmt.Errorf("wait for the console: %w", ctx.Err())
	}
}

// closeSocket removes the socket once the runtime has returned.
func (c *console) closeSocket() { _ = c.socket.Close() } // closed twice is harmless

// close hangs the terminal up.
func (c *console) close() {
	c.closeSocket()
	c.mu.Lock()
	master := c.master
	c.master = nil
	c.mu.Unlock()
	if master != nil {
		_ = master.Close() // nothing is buffered
	}
}

// Resize sets the size now, or when the master comes.
func (p *Streams) Resize(size Size) error {
	if p.console == nil {
		return nil
	}
	c := p.console
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

func setWinsize(master *os.File, size Size) error {
	rc, err := master.SyscallConn()
	if err != nil {
		return err
	}
	cerr := rc.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// Size returns the terminal size asked for so far, nil if none or no terminal.
func (p *Streams) Size() *Size {
	if p.console == nil {
		return nil
	}
	p.console.mu.Lock()
	defer p.console.mu.Unlock()
	return p.console.size
}
