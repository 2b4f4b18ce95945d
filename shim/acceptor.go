// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"containerd-shim.v1/internal/state"

	"golang.org/x/sys/unix"
)

// acceptor is a listener that keeps a connection once the kernel has handed it over.
// Those of package net close it where memory is missing: for the poller (epoll_ctl(2):
// ENOMEM), or for the page that the peer's address is written to (EFAULT). A containerd
// that starts takes the end of its first connection for the shim's death, and kills the
// container.
type acceptor struct {
	net.Listener
	file   *os.File // the same socket
	conn   syscall.RawConn
	take   func(*os.File) (net.Conn, error) // net.FileConn, but for a test
	closed atomic.Bool
}

// newAcceptor returns the acceptor on l's socket; closing it closes l.
func newAcceptor(l *net.UnixListener) (*acceptor, error) {
	f, err := l.File()
	if err != nil {
		return nil, err
	}
	conn, err := f.SyscallConn()
	if err == nil && f.SetDeadline(time.Time{}) != nil {
		// os.NewFile does not say that the poller could not take it.
		err = fmt.Errorf("poll %s: %w", l.Addr(), unix.ENOMEM)
	}
	if err != nil {
		_ = f.Close() // only a duplicate
		return nil, err
	}
	return &acceptor{Listener: l, file: f, conn: conn, take: net.FileConn}, nil
}

func (a *acceptor) Accept() (net.Conn, error) {
	var fd uintptr
	var errno syscall.Errno
	err := a.conn.Read(func(socket uintptr) bool {
		fd, _, errno = unix.RawSyscall6(unix.SYS_ACCEPT4, socket, 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		return errno != unix.EAGAIN
	})
	switch {
	case a.closed.Load():
		return nil, net.ErrClosed
	case err != nil:
		return nil, err
	case errno != 0:
		return nil, os.NewSyscallError("accept4", errno)
	}
	return AdoptSocket(context.Background(), state.FD(fd), a.take) // as long as it takes
}

func (a *acceptor) SetDeadline(t time.Time) error         { return a.file.SetDeadline(t) }
func (a *acceptor) SyscallConn() (syscall.RawConn, error) { return a.conn, nil }

func (a *acceptor) Close() error {
	a.closed.Store(true)
	_ = a.file.Close() // ends Accept
	return a.Listener.Close()
}
