// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"time"

	"containerd-shim.v1/integration/harness/wait"
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

// Never ends the check when cond holds at any time within d: what must not
// happen can only be looked for as long as somebody is willing to wait.
func (c *Case) Never(d time.Duration, what string, cond func() bool) {
	err := wait.For(d, what, func() bool { return c.isOver() || cond() })
	c.goOn()
	if err == nil {
		c.Fatalf("%s", what)
	}
}
