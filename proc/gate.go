// SPDX-License-Identifier: Apache-2.0

package proc

import "context"

// gate lets one verb of a process through at a time. Waiting for it ends with
// the waiter's context; holding it ends with the verb. It is a channel of
// capacity 1 that holds a token while the gate is taken.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// enter waits for the gate, or returns ctx's error.
func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	default:
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }
