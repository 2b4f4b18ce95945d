// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"os"
	"time"

	"containerd-shim.v1/proc"
	"containerd-shim.v1/state"

	"github.com/sirupsen/logrus"
)

// AdoptTime bounds the wait for what the sockets of a replaced program take to be
// adopted. Meanwhile nothing is reaped and nobody is answered.
const AdoptTime = time.Minute

// AdoptSocket returns what take, net.FileConn or net.FileListener, makes of an inherited
// descriptor, of which it becomes the owner. take makes a duplicate, and has the poller
// know it, for both of which memory or descriptors may be missing at the moment. Then it
// is tried again until ctx ends: without its sockets the shim is lost to the daemon.
func AdoptSocket[T any](ctx context.Context, fd state.FD, take func(*os.File) (T, error)) (T, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	for tries := 1; ; tries++ {
		socket, err := take(f)
		if err == nil || !proc.Exhausted(err) || ctx.Err() != nil {
			return socket, err
		}
		if tries == 1 {
			logrus.WithError(err).WithField("fd", fd).Warn("adopting a socket is tried again")
		}
		pause := time.NewTimer(starvedPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}
