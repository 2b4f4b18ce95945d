// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"containerd-shim/proc/internal/errclass"

	"golang.org/x/sys/unix"
)

// output is the client's side of stdout, stderr or a terminal: a FIFO, or a
// file that is appended to.
type output struct {
	path string
	// w is written to; non-blocking and known to the poller if it is a FIFO.
	w    *os.File
	fifo bool
	// seen tells that a reader was there when the FIFO was opened.
	seen bool

	// keep is a read end of the FIFO. With it, a client that goes away breaks
	// nothing: the output waits in the FIFO, and the process with it, until a
	// client comes back. containerd and dockerd rely on that across restarts.
	keep      int
	closeKeep sync.Once

	limits Limits
}

// openOutput opens path without waiting for a reader: no client can hold up
// the shim. It fails for what is not there or cannot be written.
func openOutput(path string, l Limits) (*output, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, errclass.Invalidf("open output: %w", err)
	}
	switch mode := st.Mode(); {
	case mode.IsDir():
		return nil, errclass.Invalidf("open output: %s is a directory", path)
	case mode&fs.ModeSocket != 0:
		return nil, errclass.Invalidf("open output: %s is a socket", path)
	case mode&fs.ModeNamedPipe == 0:
		w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return nil, errclass.Invalidf("open output: %w", err)
		}
		return &output{path: path, w: w, keep: -1}, nil
	}
	o := &output{path: path, fifo: true, limits: l}
	// Without a reader, opening the write end alone fails with ENXIO (fifo(7)).
	w, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return nil, errclass.Invalidf("open output: %w", err)
	}
	o.seen = err == nil
	if o.keep, err = unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		if w != nil {
			_ = w.Close()
		}
		return nil, errclass.Invalidf("open output: %w", &fs.PathError{Op: "open", Path: path, Err: err})
	}
	if w == nil {
		if w, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
			_ = unix.Close(o.keep)
			return nil, errclass.Invalidf("open output: %w", err)
		}
	}
	o.w = w
	return o, nil
}

// dropKeep closes the shim's read end. From then on the FIFO breaks when no
// client reads it.
func (o *output) dropKeep() {
	o.closeKeep.Do(func() {
		if o.keep >= 0 {
			_ = unix.Close(o.keep)
		}
	})
}

// hasReader tells whether a client has the FIFO open, once keep is closed: a
// pipe's write end polls POLLERR when there is no read end (pipe(7)).
func (o *output) hasReader() bool {
	rc, err := o.w.SyscallConn()
	if err != nil {
		return false
	}
	reader := false
	_ = rc.Control(func(fd uintptr) { // fails only if closed
		reader = pollNow(int(fd), 0)&unix.POLLERR == 0
	})
	return reader
}

// unread returns how many bytes wait in the FIFO.
func (o *output) unread() int {
	rc, err := o.w.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = rc.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) // fails only if closed
	if err != nil {
		return 0
	}
	return n
}

// abandoned tells whether path no longer leads to this FIFO, so that no
// client can come any more.
func (o *output) abandoned() bool {
	now, err := os.Stat(o.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	then, err := o.w.Stat()
	return err == nil && !os.SameFile(now, then)
}

// finish ends the output after its last byte was written. The bytes are in the
// FIFO, which lives as long as somebody has it open, so with a client there it
// is closed at once. A client that is late still finds the output, and its
// end. deleted is closed when the process was deleted, aborted when nobody is
// to be waited for.
func (o *output) finish(deleted, aborted <-chan struct{}) {
	defer o.w.Close()
	if !o.fifo {
		return
	}
	o.dropKeep()
	ended := time.Now()
	var deletedAt time.Time
	for pause := o.limits.ReaderSoon; !o.hasReader(); pause = min(2*pause, o.limits.ReaderPoll) {
		if o.giveUp(ended, deletedAt) {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-aborted:
			timer.Stop()
			return
		case <-deleted:
			deleted, deletedAt = nil, time.Now()
			pause = o.limits.ReaderSoon
		case <-timer.C:
		}
		timer.Stop()
	}
}

// giveUp decides whether an output without a reader is closed.
func (o *output) giveUp(ended, deletedAt time.Time) bool {
	if o.abandoned() {
		return true
	}
	if deletedAt.IsZero() {
		// A client that was there may be a daemon that is being restarted.
		return !o.seen && o.unread() == 0 && time.Since(ended) > o.limits.LateReader
	}
	if o.seen && o.unread() == 0 {
		return true
	}
	return time.Since(deletedAt) > o.limits.LateReader
}

// close gives the output up at once.
func (o *output) close() {
	o.dropKeep()
	_ = o.w.Close() // nothing was buffered in the process
}

// input is the client's side of stdin.
type input struct {
	path  string
	r     *os.File
	grace time.Duration // Limits.InputGrace
	// decide is done by the first of hold and dropKeep, and decided closed then;
	// ended tells that it was dropKeep.
	decide  sync.Once
	decided chan struct{}
	ended   bool
	// keep is a write end of the FIFO, which CloseIO gives up: without it the
	// process would see the end of its input whenever no client is attached.
	keep      int
	closeKeep sync.Once
}

// openInput opens the FIFO at path without waiting for a writer. Nothing is
// read before hold or dropKeep.
func openInput(path string, l Limits) (*input, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, errclass.Invalidf("open input: %w", err)
	}
	if st.IsDir() {
		return nil, errclass.Invalidf("open input: %s is a directory", path)
	}
	if st.Mode()&fs.ModeNamedPipe == 0 {
		return nil, errclass.Invalidf("open input: %s is not a FIFO", path)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, errclass.Invalidf("open input: %w", err)
	}
	return &input{path: path, r: r, grace: l.InputGrace, decided: make(chan struct{}), keep: -1}, nil
}

// hold opens keep, unless CloseIO came before: then there is none, not even for
// a moment, for a FIFO that has had a writer polls as hung up when it has none
// any more, and awaitClient could not tell that from a client that has come and
// gone. The open does not wait: r is open.
func (i *input) hold() (err error) {
	i.decide.Do(func() {
		defer close(i.decided)
		if i.keep, err = unix.Open(i.path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			err = errclass.Invalidf("open input: %w", &fs.PathError{Op: "open", Path: i.path, Err: err})
		}
	})
	return err
}

// dropKeep is CloseIO.
func (i *input) dropKeep() {
	i.decide.Do(func() {
		i.ended = true
		close(i.decided)
	})
	i.closeKeep.Do(func() {
		if i.keep >= 0 {
			_ = unix.Close(i.keep)
		}
	})
}

func (i *input) close() {
	i.dropKeep()
	_ = i.r.Close() // a reader has nothing to flush
}

// awaitClient lets a client whose CloseIO overtook its own open of the FIFO
// still come: a FIFO that never had a writer reads as ended.
func (i *input) awaitClient() {
	rc, err := i.r.SyscallConn()
	if err != nil {
		return
	}
	// The deadlines fail only if the file is closed; the read only if nobody came.
	_ = i.r.SetReadDeadline(time.Now().Add(i.grace))
	_ = rc.Read(func(fd uintptr) bool { return pollNow(int(fd), unix.POLLIN) != 0 })
	_ = i.r.SetReadDeadline(time.Time{})
}
