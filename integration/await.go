// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"time"
)

// pollInterval is how often Await looks. It bounds what a check can say about
// short times, so it is well below the shortest bound in the catalogue.
const pollInterval = 5 * time.Millisecond

// Await polls cond until it holds, and returns an error that names what was
// awaited when it does not within d.
func Await(d time.Duration, what string, cond func() bool) error {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if cond() {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			if cond() {
				return nil
			}
			return fmt.Errorf("not within %v: %s", d, what)
		}
	}
}

// Stuck is the error of a call that had no answer within the caller's patience.
type Stuck struct {
	Call     string
	Patience time.Duration
}

func (e *Stuck) Error() string {
	return fmt.Sprintf("%s: no answer within %v", e.Call, e.Patience)
}

// bounded runs f, whose own context has no deadline, and gives up waiting for
// it after d. A deadline in the context would travel to the shim, which may
// kill its runc for it and so hide the hang.
func bounded[T any](d time.Duration, call string, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	c := make(chan result, 1) // never blocks f, also when nobody waits any more
	go func() {
		v, err := f()
		c <- result{v, err}
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case r := <-c:
		return r.value, r.err
	case <-timer.C:
		var zero T
		return zero, &Stuck{Call: call, Patience: d}
	}
}
