// SPDX-License-Identifier: Apache-2.0

package proc

import "context"

// verbLock lets one verb of a process through at a time. Waiting for it ends
// with the waiter's context. It is a channel of capacity 1 that holds a token
// while a verb is at work.
type verbLock chan struct{}

func newVerbLock() verbLock { return make(verbLock, 1) }

// lock waits for the verb before, or returns ctx's error.
func (l verbLock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	default:
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l verbLock) unlock() { <-l }
