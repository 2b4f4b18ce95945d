// SPDX-License-Identifier: Apache-2.0

package errclass

import (
	"context"
	"time"
)

// exhaustedPause is the time between two tries of WhileExhausted.
const exhaustedPause = 10 * time.Millisecond

// WhileExhausted calls fn, and again as long as it fails because a limit of the system or
// of the shim is reached: memory or descriptors, of which others may give some back. It
// returns what fn has returned last, at the latest soon after the end of ctx.
func WhileExhausted[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	for {
		v, err := fn()
		if err == nil || !Exhausted(err) || ctx.Err() != nil {
			return v, err
		}
		pause := time.NewTimer(exhaustedPause)
		select {
		case <-pause.C:
		case <-ctx.Done(): // another attempt would fail because of that
			pause.Stop()
			return v, err
		}
	}
}
