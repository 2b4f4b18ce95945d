// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"sync"
	"time"

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
)

// Outbox keeps events until the daemon has taken them, in order. Its queue
// grows: whoever puts an event in waits for nothing.
type Outbox struct {
	publisher Publisher
	// wake holds a token when there may be something to send; capacity 1.
	wake chan struct{}
	// ended is closed when Run returns.
	ended chan struct{}

	mu    sync.Mutex
	queue []*types.Envelope // guarded by mu; the first one may be on its way
	// empty is closed when queue is empty, and made anew by the next Put.
	empty chan struct{} // guarded by mu
}

// NewOutbox returns an Outbox that sends by p once Run runs.
func NewOutbox(p Publisher) *Outbox {
	empty := make(chan struct{})
	close(empty)
	return &Outbox{publisher: p, wake: make(chan struct{}, 1), ended: make(chan struct{}), empty: empty}
}

// Put queues an event: behind those with the same or an earlier time, but not
// before the one that may be on its way. It never waits.
func (o *Outbox) Put(e *types.Envelope) {
	o.insert(e, func(other *types.Envelope) bool { return e.Timestamp.AsTime().Before(other.Timestamp.AsTime()) })
}

// PutLast queues an event behind all others, whatever their times.
func (o *Outbox) PutLast(e *types.Envelope) {
	o.insert(e, func(*types.Envelope) bool { return false })
}

func (o *Outbox) insert(e *types.Envelope, before func(other *types.Envelope) bool) {
	o.mu.Lock()
	if len(o.queue) == 0 {
		o.empty = make(chan struct{})
	}
	at := len(o.queue)
	for at > 1 && before(o.queue[at-1]) {
		at--
	}
	o.queue = append(o.queue, nil)
	copy(o.queue[at+1:], o.queue[at:])
	o.queue[at] = e
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
		e := o.first()
		if e == nil {
			select {
			case <-o.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := o.publisher.Publish(ctx, e)
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

func (o *Outbox) first() *types.Envelope {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return nil
	}
	return o.queue[0]
}

func (o *Outbox) taken() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue[0] = nil
	o.queue = o.queue[1:]
	if len(o.queue) == 0 {
		o.queue = nil // give a burst's memory back
		close(o.empty)
	}
}
