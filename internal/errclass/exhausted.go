// SPDX-License-Identifier: Apache-2.0

package errclass

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Pause is the time between two tries of a call that has failed for want of something.
const Pause = 10 * time.Millisecond

// Starved reports whether a read, a write or a splice has failed only because the memory
// cgroup, or the host, had no memory left: for the bytes in the kernel (splice(2), pipe(7);
// ENOBUFS with sockets, unix(7)), or for a page of the buffer, which is EFAULT. Nothing was
// moved then, nothing has ended, and the call succeeds once there is some.
func Starved(err error) bool {
	return errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EFAULT)
}

// WhileExhausted calls fn, and again as long as it fails because a limit of the system or
// of the shim is reached: memory or descriptors, of which others may give some back. It
// returns what fn has returned last, at the latest soon after the end of ctx.
func WhileExhausted[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	for {
		v, err := fn()
		if err == nil || !Exhausted(err) || ctx.Err() != nil {
			return v, err
		}
		pause := time.NewTimer(Pause)
		select {
		case <-pause.C:
		case <-ctx.Done(): // another attempt would fail because of that
			pause.Stop()
			return v, err
		}
	}
}
