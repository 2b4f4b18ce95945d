// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"
	"time"
)

// Pending is a call that runs beside the check.
type Pending struct {
	name string
	done chan struct{} // closed when err is set
	err  error
}

// Async starts f beside the check.
func Async(name string, f func() error) *Pending {
	p := &Pending{name: name, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = f()
	}()
	return p
}

// Done reports whether the call has returned.
func (p *Pending) Done() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Await waits for the call's error, and gives up after d.
func (p *Pending) Await(d time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(d):
		return &Stuck{Call: p.name, Patience: d}
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
