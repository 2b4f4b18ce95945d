// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/reaper"
	"containerd-shim.v1/shim"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// adopt runs a shim that was executed in place of another, until it is told to end.
// Nothing is fatal, because the container has no other supervisor: what cannot be
// taken over is logged, and a request for it is answered with an error. So is bad, an
// error in the flags or their environment, which the previous program may have accepted.
// The error returned is that of ending the container.
func adopt(o options, bad error, forks *reaper.Forker) error {
	ctx, cancel := context.WithTimeout(context.Background(), shim.AdoptTime)
	fds := inheritedFDs(ctx) // first: no child may get them
	p, err := newProgram(o)
	if err != nil {
		fmt.Fprintf(os.Stderr, "containerd-shim: %v\n", err)
	}
	reaper.Redeliver()
	p.setLog(logWait)
	if bad != nil {
		logrus.WithError(bad).Error("the default is used instead")
	}
	st, unread := readState(ctx, o.adopt)
	if unread != nil {
		logrus.WithError(unread).WithField("file", o.adopt).Error("the state cannot be read; the container is not known")
		st = &state.Shim{Listener: findListener(fds)}
	}
	if err := reaper.SetSubreaper(); err != nil { // it is one already: execve(2) keeps that
		logrus.WithError(err).Error("adopt")
	}
	r := reaper.Prepare(forks, st.Seq)
	p.supervise(r)
	kept := make(map[int]bool)
	for _, fd := range st.FDs() {
		kept[int(fd)] = true
	}
	for _, fd := range fds {
		if !kept[fd] {
			_ = unix.Close(fd) // it is not in the state
		}
	}
	listener := adoptListener(ctx, st.Listener, o.socket != "")
	guard.Do("adopt", func() { p.sup.Adopt(ctx, st) })
	cancel()
	go p.sup.Run(r.Subscribe())
	r.Resume()
	if unread == nil { // it has specs, maybe with secrets, that are no longer needed
		_ = p.disk.do(diskTime, func() error { return os.Remove(o.adopt) })
	}
	logrus.WithField("writer", st.Writer).Info("the program was exchanged")
	p.begun()
	for {
		err := p.serve(listener)
		if !errors.Is(err, errServe) {
			return err
		}
		logrus.WithError(err).Error("adopt")
		listener = newNoListener()
	}
}

// readState reads the state. While its file is there and cannot be read it is tried again,
// until ctx ends, whatever the reason: without it the container has no supervisor.
func readState(ctx context.Context, path string) (*state.Shim, error) {
	for {
		st, err := state.ReadFile(path)
		if err == nil || !errors.As(err, new(*os.PathError)) || errors.Is(err, os.ErrNotExist) || ctx.Err() != nil {
			return st, err
		}
		select {
		case <-time.After(errclass.Pause):
		case <-ctx.Done():
		}
	}
}

// inheritedFDs returns the descriptors that the program was given besides its stdio,
// and marks them close-on-exec. The Go runtime's own are so marked already. Until ctx ends
// it waits for the memory or descriptor to find them with.
func inheritedFDs(ctx context.Context) (fds []int) {
	entries, _ := errclass.WhileExhausted(ctx, func() ([]os.DirEntry, error) {
		return os.ReadDir("/proc/self/fd") // without /proc none can be found
	})
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.CloseOnExec(fd)
			fds = append(fds, fd)
		}
	}
	return fds
}

// findListener returns the listening socket among fds, or 0 if there is none.
func findListener(fds []int) state.FD {
	for _, fd := range fds {
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && on != 0 {
			return state.FD(fd)
		}
	}
	return 0
}

// adoptListener returns the listener on fd, or a noListener without one. own says that
// the shim itself has made the socket's path, and must remove it.
func adoptListener(ctx context.Context, fd state.FD, own bool) net.Listener {
	if fd == 0 {
		return newNoListener()
	}
	l, err := shim.AdoptSocket(ctx, fd, net.FileListener)
	if err != nil {
		logrus.WithError(err).WithField("fd", fd).Error("adopt the listener")
		return newNoListener()
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(own) // otherwise the daemon removes it
	}
	return l
}

// noListener is a listener to which nobody ever connects. A deadline in the past ends
// its Accept all the same, so that the shim can stand still; see Supervisor.Freeze.
type noListener struct{ due chan struct{} } // has a value once a deadline was set

func newNoListener() noListener { return noListener{make(chan struct{}, 1)} }

func (l noListener) Accept() (net.Conn, error) {
	<-l.due
	return nil, os.ErrDeadlineExceeded
}

// SetDeadline takes any time but the zero one for a deadline that has passed.
func (l noListener) SetDeadline(t time.Time) error {
	if !t.IsZero() {
		select {
		case l.due <- struct{}{}:
		default:
		}
	}
	return nil
}

func (l noListener) Close() error   { return nil }
func (l noListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
