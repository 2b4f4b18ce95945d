// SPDX-License-Identifier: Apache-2.0

package errclass

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"
)

// TestWhileExhausted: what is told at the end is what was missing, and not that the time was
// over, of which an attempt after the end would fail.
func TestWhileExhausted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*Pause/2)
		defer cancel()
		tries := 0
		_, err := WhileExhausted(ctx, func() (int, error) {
			if tries++; ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return 0, unix.EAGAIN
		})
		if !errors.Is(err, unix.EAGAIN) || tries != 3 {
			t.Errorf("%d tries, then %v", tries, err)
		}
	})
}
