// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"os"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/state"

	"github.com/sirupsen/logrus"
)

// AdoptTime bounds the wait for what the state, the sockets and the streams of a replaced
// program take to be adopted. Meanwhile nothing is reaped and nobody is answered.
const AdoptTime = time.Minute

// AdoptSocket returns what take, net.FileConn or net.FileListener, makes of an inherited
// descriptor, of which it becomes the owner. take makes a duplicate, and has the poller
// know it, for both of which memory or descriptors may be missing at the moment. Then it
// is tried again until ctx ends: without its sockets the shim is lost to the daemon.
func AdoptSocket[T any](ctx context.Context, fd state.FD, take func(*os.File) (T, error)) (T, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	tried := false
	return errclass.WhileExhausted(ctx, func() (T, error) {
		socket, err := take(f)
		if err != nil && !tried {
			logrus.WithError(err).WithField("fd", fd).Warn("a socket could not be adopted at once")
		}
		tried = true
		return socket, err
	})
}
