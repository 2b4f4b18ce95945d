// SPDX-License-Identifier: Apache-2.0

// Package session tells when an operator's session ends: ^C, kill, a hang-up, or nobody reads
// the output any more, as with `| head`. What a program has made on the host is then to be removed.
package session

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Notify relays the signals that end a session to c, which should be buffered: they are not waited
// for. SIGPIPE is one only if it comes of standard output or error. Other writes bring it, too (os/signal),
// and it is not ignored instead because whatever is started would ignore it as well. stop ends that.
func Notify(c chan<- os.Signal) (stop func()) {
	raw := make(chan os.Signal, 8)
	signal.Notify(raw, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		for s := range raw {
			if s == syscall.SIGPIPE && !unread() {
				continue
			}
			select {
			case c <- s:
			default:
			}
		}
	}()
	return sync.OnceFunc(func() {
		signal.Stop(raw)
		close(raw)
	})
}

// Context returns a context that ends with the session.
func Context() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	c := make(chan os.Signal, 1)
	end := Notify(c)
	go func() {
		select {
		case <-c:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { end(); cancel() }
}

// unread reports whether standard output or error has no reader any more.
func unread() bool {
	fds := []unix.PollFd{{Fd: 1}, {Fd: 2}}
	_, _ = unix.Poll(fds, 0) // an error leaves Revents empty
	return (fds[0].Revents|fds[1].Revents)&(unix.POLLERR|unix.POLLHUP) != 0
}
