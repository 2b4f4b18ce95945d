// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pump moves bytes from src to dst until src ends, dst breaks, or it is cut.
// Both must be non-blocking descriptors known to the Go poller, so that a
// waiting pump costs no thread. Between two pipes it uses splice(2) and holds
// no buffer at all.
type pump struct {
	src, dst *os.File
	// spliced is set if both ends are pipes or FIFOs.
	spliced bool
	// last is when bytes last moved, in nanoseconds of the monotonic clock
	// since started; blocked tells that there are bytes which dst does not take.
	started time.Time
	last    atomic.Int64
	blocked atomic.Bool
	moved   atomic.Int64
	// ended is closed by run when it returns, ready for dst to be closed.
	ended chan struct{}
}

func newPump(src, dst *os.File, spliced bool) *pump {
	return &pump{src: src, dst: dst, spliced: spliced, started: time.Now(), ended: make(chan struct{})}
}

// chunk is how much is moved at a time: what fits a FIFO of default size.
const chunk = 64 << 10

// page is what a FIFO that polls writable takes at once (pipe(7)).
const page = 4 << 10

// copyBuffers are for pumps that cannot splice. A buffer is held only while
// bytes are moved, never while they are waited for.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// run moves bytes. It returns nil at the end of src, or the error that ended it.
func (p *pump) run() error {
	defer close(p.ended)
	src, err := p.src.SyscallConn()
	if err != nil {
		return err
	}
	dst, err := p.dst.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var n int
		if p.spliced {
			n, err = p.splice(src, dst)
		} else {
			n, err = p.copy(src, chunk)
		}
		if n > 0 {
			p.moved.Add(int64(n))
			p.last.Store(int64(time.Since(p.started)))
			p.blocked.Store(false)
		}
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// splice moves what is there, waiting for src or dst as needed.
func (p *pump) splice(src, dst syscall.RawConn) (n int, err error) {
	full, few := false, false
	rerr := src.Read(func(rfd uintptr) bool {
		werr := dst.Control(func(wfd uintptr) {
			if few = fragments(int(rfd), int(wfd)); few {
				return
			}
			var m int64
			for {
				m, err = unix.Splice(int(rfd), nil, int(wfd), nil, chunk, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
				if err != unix.EINTR {
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
		if err == unix.EAGAIN {
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
		return p.copy(src, page)
	case err == unix.EAGAIN && full:
		return 0, p.awaitRoom(dst)
	case err != nil:
		return 0, os.NewSyscallError("splice", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// fragments tells whether the bytes that wait should be copied. A pipe holds 16
// buffers, however few bytes are in each, and only bytes that were written are
// joined to the last one: lines spliced to a reader that is behind would fill
// its FIFO after 16 of them instead of 64 KiB.
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
	p.blocked.Store(true)
	return dst.Write(func(fd uintptr) bool { return pollNow(int(fd), unix.POLLOUT) != 0 })
}

// copy moves one buffer of at most limit bytes.
func (p *pump) copy(src syscall.RawConn, limit int) (int, error) {
	var (
		buf *[]byte
		n   int
		err error
	)
	defer func() {
		if buf != nil {
			copyBuffers.Put(buf)
		}
	}()
	rerr := src.Read(func(fd uintptr) bool {
		if buf == nil {
			buf = copyBuffers.Get().(*[]byte)
		}
		for {
			n, err = unix.Read(int(fd), (*buf)[:min(limit, len(*buf))])
			if err != unix.EINTR {
				break
			}
		}
		if err == unix.EAGAIN {
			copyBuffers.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case err == unix.EIO: // a terminal whose other side is closed
		return 0, io.EOF
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	p.blocked.Store(true)
	defer p.blocked.Store(false)
	return p.dst.Write((*buf)[:n])
}

// idle returns for how long src has had nothing; zero while dst is the one
// that is waited for.
func (p *pump) idle() time.Duration {
	if p.blocked.Load() {
		return 0
	}
	return time.Since(p.started) - time.Duration(p.last.Load())
}

// cut makes run return soon, whatever it waits for.
func (p *pump) cut() {
	past := time.Unix(1, 0)
	_ = p.src.SetReadDeadline(past)  // fails only if closed, and then run ends anyway
	_ = p.dst.SetWriteDeadline(past) // or for a regular file, which never waits
}

// wasCut tells whether err is the doing of cut.
func wasCut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed)
}

// pollNow returns which of events, or of POLLERR and POLLHUP, hold for fd now.
func pollNow(fd int, events int16) int16 {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		if _, err := unix.Poll(fds, 0); err != unix.EINTR {
			return fds[0].Revents
		}
	}
}

// pipe returns the two ends of a pipe: shimEnd is non-blocking and known to
// the poller, childEnd is as a child expects its stdio to be. os.Pipe would
// make both non-blocking.
func pipe(childReads bool) (shimEnd, childEnd *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	shim, child := 0, 1
	if childReads {
		shim, child = 1, 0
	}
	if err := unix.SetNonblock(fds[shim], true); err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[shim]), "pipe"), os.NewFile(uintptr(fds[child]), "pipe"), nil
}
