// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"slices"
	"sync"
	"time"

	"containerd-shim/guard"

	"github.com/containerd/containerd/api/types"
	"github.com/sirupsen/logrus"
)

// Publisher hands one event to the daemon. A nil error means that the daemon
// has taken it.
type Publisher interface {
	Publish(ctx context.Context, e *types.Envelope) error
}

const (
	// retryFirst and retryMost bound the pause before an event that was not
	// taken is sent again. The longest is what a daemon that comes back waits.
	retryFirst = 20 * time.Millisecond
	retryMost  = 2 * time.Second
	// holdPlace is how long an event that is not due keeps back those behind it.
	holdPlace = 2 * noticeWait
)

// Outbox keeps events until the daemon has taken them, in order. Its queue
// grows: whoever puts an event in waits for nothing.
type Outbox struct {
	publisher Publisher
	// wake holds a token when there may be something to send; capacity 1.
	wake chan struct{}
	// ended is closed when Run returns.
	ended chan struct{}

	mu sync.Mutex
	// +checklocks:mu
	queue []queued
	// +checklocks:mu
	sending bool // the first one is on its way
	// empty is closed when queue is empty, and made anew by the next Put.
	// +checklocks:mu
	empty chan struct{}
}

// queued is one event, not to be sent before due is closed; nil means now.
type queued struct {
	e    *types.Envelope
	due  <-chan struct{}
	from time.Time // when it was put
}

func (q queued) isDue() bool {
	if q.due == nil {
		return true
	}
	select {
	case <-q.due:
		return true
	default:
		return false
	}
}

// NewOutbox returns an Outbox that sends by p once Run runs.
func NewOutbox(p Publisher) *Outbox {
	empty := make(chan struct{})
	close(empty)
	return &Outbox{publisher: p, wake: make(chan struct{}, 1), ended: make(chan struct{}), empty: empty}
}

// Put queues an event behind those with the same or an earlier time, but not
// before one that is on its way. It never waits.
func (o *Outbox) Put(e *types.Envelope) { o.PutHeld(e, nil) }

// PutHeld is Put for an event that is not sent before due is closed. Those
// behind it wait with it for holdPlace, and then pass it.
func (o *Outbox) PutHeld(e *types.Envelope, due <-chan struct{}) {
	o.insert(queued{e, due, time.Now()}, func(other *types.Envelope) bool { return e.Timestamp.AsTime().Before(other.Timestamp.AsTime()) })
}

// PutLast queues an event behind all others, whatever their times.
func (o *Outbox) PutLast(e *types.Envelope) {
	o.insert(queued{e: e}, func(*types.Envelope) bool { return false })
}

func (o *Outbox) insert(q queued, before func(other *types.Envelope) bool) {
	o.mu.Lock()
	if len(o.queue) == 0 {
		o.empty = make(chan struct{})
	}
	first := 0
	if o.sending {
		first = 1
	}
	at := len(o.queue)
	for at > first && before(o.queue[at-1].e) {
		at--
	}
	o.queue = slices.Insert(o.queue, at, q)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Len returns how many events the daemon has not taken yet.
func (o *Outbox) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}

// Flushed waits until the daemon has taken everything, or ctx ends.
func (o *Outbox) Flushed(ctx context.Context) error {
	o.mu.Lock()
	empty := o.empty
	o.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run sends until ctx ends.
func (o *Outbox) Run(ctx context.Context) {
	defer close(o.ended)
	pause := retryFirst
	failed := 0
	for {
		e, wait := o.next()
		if e == nil {
			if !o.pause(ctx, wait) {
				return
			}
			continue
		}
		err := guard.Call("publish", func() error { return o.publisher.Publish(ctx, e) })
		if err == nil {
			if failed > 0 {
				logrus.WithField("attempts", failed+1).Info("the daemon takes events again")
			}
			o.taken()
			pause, failed = retryFirst, 0
			continue
		}
		if failed++; failed == 1 {
			logrus.WithError(err).Warn("the daemon does not take an event; it is kept and sent again")
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		pause = min(2*pause, retryMost)
	}
}

// delay says what to wait for when nothing may be sent now.
type delay struct {
	due  <-chan struct{} // nil: of nothing
	most time.Duration   // how long it keeps back the others; if due is not nil
}

// next returns the event to send now, and moves it to the front; or else what
// to wait for.
func (o *Outbox) next() (*types.Envelope, delay) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sending { // it was not taken
		return o.queue[0].e, delay{}
	}
	for i, q := range o.queue {
		if q.isDue() {
			o.sending = true
			o.queue = slices.Insert(slices.Delete(o.queue, i, i+1), 0, q)
			return q.e, delay{}
		}
		if left := holdPlace - time.Since(q.from); left > 0 {
			return nil, delay{q.due, left}
		}
	}
	if len(o.queue) > 0 {
		return nil, delay{o.queue[0].due, holdPlace} // all overdue: look again then
	}
	return nil, delay{}
}

// pause waits until next may have something; false when ctx has ended.
func (o *Outbox) pause(ctx context.Context, h delay) bool {
	var timeout <-chan time.Time
	if h.due != nil {
		timer := time.NewTimer(h.most)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-h.due:
	case <-timeout:
	case <-o.wake: // another one may be first now
	case <-ctx.Done():
		return false
	}
	return true
}

func (o *Outbox) taken() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue[0] = queued{}
	o.queue = o.queue[1:]
	o.sending = false
	if len(o.queue) == 0 {
		o.queue = nil // give a burst's memory back
		close(o.empty)
	}
}
