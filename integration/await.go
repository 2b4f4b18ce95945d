// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"time"
)

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
