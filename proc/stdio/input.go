// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/gate"

	"golang.org/x/sys/unix"
)

// input is the client's end of stdin: a FIFO, or a file that ends by itself.
type input struct {
	path string
	r    *os.File
	fifo bool
	// terminal: the process's end is its terminal; set with pump.
	terminal bool
	limits   Limits
	gate     *gate.Gate
	// first are bytes that an adopted input has to write before anything else.
	first []byte
	// decided is closed when it is known whether the input is held: nothing is
	// read before.
	decided chan struct{}

	mu sync.Mutex
	// +checklocks:mu
	decision decision
	// keepalive is a write end of the FIFO, which CloseIO closes; -1 for none.
	// Without it the process would see the end of its input whenever no client
	// is attached.
	// +checklocks:mu
	keepalive int
	// ended: keepalive must not be opened any more.
	// +checklocks:mu
	ended bool
	// exited: nothing is left to read the input.
	// +checklocks:mu
	exited bool
	// pump is nil before the process's end is there.
	// +checklocks:mu
	pump *pump
	// over: the input is closed.
	// +checklocks:mu
	over bool
}

// decision is what came first.
type decision int

const (
	undecided decision = iota
	toHold             // hold
	toEnd              // CloseIO
	toDrop             // the exit
)

// openInput opens path without waiting for a writer.
func openInput(path string, l Limits) (*input, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, errclass.Pathf("open input: %w", err)
	}
	switch mode := st.Mode(); {
	case mode.IsDir():
		return nil, errclass.Invalidf("open input: %s is a directory", path)
	case mode&fs.ModeSocket != 0:
		return nil, errclass.Invalidf("open input: %s is a socket", path)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, errclass.Pathf("open input: %w", err)
	}
	fifo := st.Mode()&fs.ModeNamedPipe != 0
	if fifo {
		if err := inPoller(r); err != nil {
			_ = r.Close() // nothing was read
			return nil, errclass.Pathf("open input: %w", err)
		}
	}
	return &input{
		path: path, r: r, fifo: fifo, limits: l,
		decided: make(chan struct{}), keepalive: -1,
	}, nil
}

// decide reports whether d is the first decision. Its caller then closes
// decided.
func (i *input) decide(d decision) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.decision != undecided {
		return false
	}
	i.decision = d
	return true
}

// hold opens keepalive, unless CloseIO came first. Then it is not opened even for a
// moment: a FIFO that has had a writer and has none any more polls as hung up, and
// awaitClient could not tell that from a client that has come and gone.
func (i *input) hold() error {
	if !i.decide(toHold) {
		return nil
	}
	defer close(i.decided)
	return i.keep()
}

// keep opens keepalive. The open does not wait, because r is open.
func (i *input) keep() error {
	if !i.fifo {
		return nil
	}
	fd, err := unix.Open(i.path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return errclass.Pathf("open input: %w", &fs.PathError{Op: "open", Path: i.path, Err: err})
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		_ = unix.Close(fd)
	} else {
		i.keepalive = fd
	}
	return nil
}

// end is CloseIO.
func (i *input) end() {
	if i.decide(toEnd) {
		close(i.decided)
	}
	i.closeKeepalive()
}

func (i *input) closeKeepalive() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	if i.keepalive >= 0 {
		_ = unix.Close(i.keepalive)
		i.keepalive = -1
	}
}

// exit ends the input: nothing is left to read it.
func (i *input) exit() {
	if i.decide(toDrop) {
		close(i.decided)
	}
	i.mu.Lock()
	i.exited = true
	p := i.pump
	i.mu.Unlock()
	if p != nil {
		p.interrupt(past) // for good: see until
	} else {
		i.close() // the terminal has never come
	}
}

func (i *input) close() {
	i.closeKeepalive()
	i.mu.Lock()
	i.over = true
	i.mu.Unlock()
	_ = i.r.Close() // a reader has nothing to flush
}

// until lets p wait until then, or without a limit if then is zero. Once the process
// has exited, nothing waits any more. While the gate is shut, the input stands still
// here.
func (i *input) until(p *pump, then time.Time) (exited bool) {
	for {
		i.gate.Pass()
		exited = i.untilNow(p, then)
		if !i.gate.IsShut() { // or the interrupt that followed would be undone
			return exited
		}
	}
}

func (i *input) untilNow(p *pump, then time.Time) (exited bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.exited {
		p.interrupt(then)
	}
	return i.exited
}

// begin makes dst the process's end. It comes before run, in the caller's goroutine,
// so that the input is known by it even if run has yet to come to its gate.
func (i *input) begin(dst *os.File, terminal bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pump = &pump{src: i.r, dst: dst, spliced: i.fifo && !terminal, pending: i.first}
	i.terminal = terminal
}

// run copies from the client to the process, once it is decided whether the input
// is held, until the client and the shim have closed the FIFO or the process is
// gone. If it was the client who has ended it, run calls ended, unless that is nil. An
// exchange sees either the open input or the effect of ended, and nothing in between.
func (i *input) run(ended func()) {
	i.gate.Enter()
	defer i.gate.Leave()
	defer i.close()
	if i.copy() && ended != nil {
		ended()
	}
}

// copy does what run is for, and reports whether it was the client who has ended it.
func (i *input) copy() bool {
	i.mu.Lock()
	p, terminal := i.pump, i.terminal
	i.mu.Unlock()
	<-i.decided
	i.mu.Lock()
	first := i.decision
	i.mu.Unlock()
	if first == toEnd && i.fifo {
		i.awaitClient(p)
	}
	for {
		step := p.step
		wait := time.Time{}
		if terminal && len(p.pending) == 0 {
			step = func() (int, error) { return p.fill(page) }
		} else if terminal {
			wait = time.Now().Add(i.limits.Stubborn)
		}
		if i.until(p, wait) {
			return false
		}
		switch n, err := step(); {
		case err == nil || n > 0:
		case errors.Is(err, io.EOF):
			return true
		case !timedOut(err):
			return false // nobody reads any more
		case terminal && due(wait) && i.clientGone():
			return true // the process does not read the rest, and the hang-up must not wait for that
		}
	}
}

// awaitClient waits for a client whose CloseIO overtook its own open of the FIFO: a
// FIFO that has never had a writer reads as ended.
func (i *input) awaitClient(p *pump) {
	rc, err := i.r.SyscallConn()
	if err != nil {
		return
	}
	for then := time.Now().Add(i.limits.InputGrace); !i.until(p, then); {
		err := rc.Read(func(fd uintptr) bool { return pollNow(int(fd), unix.POLLIN) != 0 })
		if !timedOut(err) || due(then) { // else it was the gate's interrupt
			return
		}
	}
}

// clientGone reports whether the FIFO has had a writer and has none any more.
func (i *input) clientGone() (gone bool) {
	control(i.r, func(fd int) { gone = pollNow(fd, unix.POLLIN)&unix.POLLHUP != 0 })
	return gone
}
