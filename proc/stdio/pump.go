// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"containerd-shim.v1/internal/errclass"

	"golang.org/x/sys/unix"
)

// pump moves bytes from src to dst. Both must be non-blocking descriptors known
// to the Go poller, so that a waiting pump costs no thread, or files that never
// wait. Between two pipes it uses splice(2) and holds no buffer at all.
type pump struct {
	src, dst *os.File
	// inUse reports, for a terminal, whether the process may still be there.
	inUse func() bool
	// spliced is set if both ends are pipes or FIFOs.
	spliced bool
	// pending was read from src and not yet written to dst.
	pending []byte
	// blocked: there are bytes which dst does not take.
	blocked bool
	// total is how many bytes dst has taken.
	total int64
}

// chunk is how much is moved at a time: what fits a FIFO of default size.
const chunk = 64 << 10

// page is what a FIFO that polls writable takes at once (pipe(7)).
const page = 4 << 10

// copyBuffers are for pumps that cannot splice. A buffer is held only while
// bytes are moved, never while they are waited for.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// step moves some bytes, waiting for src and dst as needed. It returns io.EOF at
// the end of src, and an error with which timedOut holds after interrupt.
func (p *pump) step() (n int, err error) {
	switch {
	case len(p.pending) > 0:
		n, err = p.writePending()
	case p.spliced:
		n, err = p.splice()
	default:
		n, err = p.copy(chunk)
	}
	if n > 0 {
		p.total += int64(n)
		p.blocked = len(p.pending) > 0
	}
	return n, rest(err)
}

// rest rests, and returns nil, if err says only that there was no memory: nothing was
// moved then, and nothing has ended.
func rest(err error) error {
	if !errclass.Starved(err) {
		return err
	}
	time.Sleep(errclass.Pause)
	return nil
}

// drainPauses is how often drain rests: there, somebody waits.
const drainPauses = 100

// flush writes some of what is pending; at its end it returns io.EOF.
func (p *pump) flush() (int, error) {
	if len(p.pending) == 0 {
		return 0, io.EOF
	}
	return p.step()
}

func (p *pump) writePending() (int, error) {
	p.blocked = true
	n, err := p.dst.Write(p.pending)
	if p.pending = p.pending[n:]; len(p.pending) == 0 {
		p.pending = nil
	}
	return n, err
}

// interrupt makes step, and fill, return when at has come, at once for a time
// in the past; zero lets them wait as long as they like. It may be called by
// any goroutine.
func (p *pump) interrupt(at time.Time) {
	_ = p.src.SetReadDeadline(at)  // fails only for what is closed, or
	_ = p.dst.SetWriteDeadline(at) // for a regular file, which never waits
}

// splice moves what is there, waiting for src or dst as needed.
func (p *pump) splice() (n int, err error) {
	src, err := p.src.SyscallConn()
	if err != nil {
		return 0, err
	}
	dst, err := p.dst.SyscallConn()
	if err != nil {
		return 0, err
	}
	full, few := false, false
	rerr := src.Read(func(rfd uintptr) bool {
		werr := dst.Control(func(wfd uintptr) {
			if few = fragments(int(rfd), int(wfd)); few {
				return
			}
			var m int64
			for {
				m, err = unix.Splice(int(rfd), nil, int(wfd), nil, chunk, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
				if !errors.Is(err, unix.EINTR) {
					break
				}
			}
			n = int(m)
		})
		if werr != nil {
			err = werr
			return true
		}
		if few {
			return true
		}
		if errors.Is(err, unix.EAGAIN) {
			// Either src has nothing or dst has no room; the count tells. A src
			// that has ended while dst is full must be told by its hang-up:
			// splice looks at dst first, and the poller will not wake again
			// for an end that it has reported.
			hup := pollNow(int(rfd), unix.POLLIN)&unix.POLLHUP != 0 // before the count
			waiting, ioerr := unix.IoctlGetInt(int(rfd), unix.TIOCINQ)
			full = ioerr == nil && waiting > 0
			if hup && !full {
				n, err = 0, nil
			}
			return full || hup
		}
		return true
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case few:
		return p.copy(page)
	case errors.Is(err, unix.EAGAIN) && full:
		return 0, p.awaitRoom(dst)
	case err != nil:
		return 0, os.NewSyscallError("splice", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// fragments reports whether the bytes that wait should be copied instead of spliced.
// A pipe holds 16 buffers, however few bytes are in each, and only write(2) adds to
// the last one: lines that are spliced to a slow reader would fill its FIFO after 16
// of them instead of 64 KiB.
func fragments(rfd, wfd int) bool {
	behind, err := unix.IoctlGetInt(wfd, unix.TIOCINQ)
	if err != nil || behind == 0 {
		return false
	}
	waiting, err := unix.IoctlGetInt(rfd, unix.TIOCINQ)
	return err == nil && 0 < waiting && waiting < chunk/2 && pollNow(wfd, unix.POLLOUT)&unix.POLLOUT != 0
}

// awaitRoom waits until dst takes bytes again or breaks.
func (p *pump) awaitRoom(dst syscall.RawConn) error {
	p.blocked = true
	return dst.Write(func(fd uintptr) bool { return pollNow(int(fd), unix.POLLOUT) != 0 })
}

// copy moves one buffer of at most limit bytes.
func (p *pump) copy(limit int) (n int, err error) {
	_, rerr := p.read(limit, func(b []byte) {
		p.blocked = true
		n, err = p.dst.Write(b)
		if n < len(b) {
			p.pending = bytes.Clone(b[n:])
		}
	})
	if rerr != nil {
		return 0, rerr
	}
	return n, err
}

// fill adds to pending at most limit bytes of src.
func (p *pump) fill(limit int) (int, error) {
	n, err := p.read(limit, func(b []byte) { p.pending = append(p.pending, b...) })
	return n, rest(err)
}

// read waits for bytes from src and gives at most limit of them to take. It returns
// io.EOF at the end. A terminal returns EIO while nobody has its other side open,
// which a living process may change at any time, so that is the end only if inUse
// says so.
func (p *pump) read(limit int, take func([]byte)) (n int, err error) {
	src, err := p.src.SyscallConn()
	if err != nil {
		return 0, err
	}
	var buf *[]byte
	rerr := src.Read(func(fd uintptr) bool {
		buf = copyBuffers.Get().(*[]byte)
		if n, err = readNow(int(fd), (*buf)[:min(limit, len(*buf))]); errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EIO) && p.inUse != nil && p.inUse() {
			copyBuffers.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	if buf != nil {
		defer copyBuffers.Put(buf)
	}
	switch {
	case rerr != nil:
		return 0, rerr
	case errors.Is(err, unix.EIO), err == nil && n == 0:
		return 0, io.EOF
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	}
	take((*buf)[:n])
	return n, nil
}

// drain adds to pending what is in src now, until limit is passed, without
// waiting for more.
func (p *pump) drain(limit int) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for read, pauses := 0, 0; read < limit; {
		n, err := 0, error(nil)
		control(p.src, func(fd int) { n, err = readNow(fd, *buf) })
		if errclass.Starved(err) && pauses < drainPauses {
			pauses++
			time.Sleep(errclass.Pause)
			continue
		}
		if n <= 0 { // at EAGAIN, at the end and at EIO alike
			return
		}
		p.pending = append(p.pending, (*buf)[:n]...)
		read += n
	}
}

func readNow(fd int, b []byte) (int, error) {
	for {
		if n, err := unix.Read(fd, b); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// pollNow returns which of events, or of POLLERR and POLLHUP, hold for fd now.
func pollNow(fd int, events int16) int16 {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		if _, err := unix.Poll(fds, 0); !errors.Is(err, unix.EINTR) {
			return fds[0].Revents
		}
	}
}

// Which end of a pipe is the shim's.
const (
	readEnd  = 0
	writeEnd = 1
	noEnd    = -1
)

// pipe returns the two ends of a pipe. The shim's is non-blocking and known to
// the poller, the other as a child expects its stdio to be. os.Pipe would make
// both non-blocking.
func pipe(shims int) (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	if shims != noEnd {
		err = unix.SetNonblock(fds[shims], true)
	}
	r, w = os.NewFile(uintptr(fds[readEnd]), "pipe"), os.NewFile(uintptr(fds[writeEnd]), "pipe")
	if err != nil {
		err = os.NewSyscallError("fcntl", err)
	} else if shims != noEnd {
		err = inPoller([]*os.File{r, w}[shims])
	}
	if err != nil {
		_, _ = r.Close(), w.Close() // nothing was written
		return nil, nil, err
	}
	return r, w, nil
}

// inPoller returns an error unless f, whose descriptor is non-blocking, is known
// to the poller. Package os says nothing if it is not, for want of memory or
// beyond fs.epoll.max_user_watches (epoll_ctl(2)), but each read and write that
// should wait then fails at once: a pipe that looks like it has ended.
var inPoller = func(f *os.File) error { // replaced by tests
	if err := f.SetDeadline(time.Time{}); err != nil {
		return &fs.PathError{Op: "epoll_ctl", Path: f.Name(), Err: unix.ENOSPC}
	}
	return nil
}

// pollable returns a duplicate of a blocking descriptor that costs no thread
// while it is waited for.
func pollable(fd uintptr, name string) (*os.File, error) {
	dup, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(dup, true); err != nil {
		_ = unix.Close(dup)
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(dup), name)
	if err := inPoller(f); err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// unread returns how many bytes wait in a pipe or FIFO, 0 for a nil or closed one.
func unread(f *os.File) (n int) {
	control(f, func(fd int) {
		if waiting, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil {
			n = waiting
		}
	})
	return n
}

// control calls fn with the descriptor of f, unless f is closed.
func control(f *os.File, fn func(fd int)) {
	if rc, err := f.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) { fn(int(fd)) })
	}
}
