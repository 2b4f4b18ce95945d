// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/shim/publish"

	"github.com/containerd/containerd/api/types"
	"github.com/sirupsen/logrus"
)

// Publisher hands one event to the daemon. It returns nil once the daemon has
// taken it, and an error that wraps publish.ErrAway if there is no daemon.
type Publisher interface {
	Publish(ctx context.Context, e *types.Envelope) error
}

const (
	// retryAway is the pause between two looks for a daemon that cannot be
	// reached. It is short because a connect(2) that is refused costs little.
	retryAway = 100 * time.Millisecond
	// retryFirst and retryMost bound the pause before an event that a daemon
	// has refused is sent again; it doubles each time.
	retryFirst = 20 * time.Millisecond
	retryMost  = 2 * time.Second
)

// Outbox keeps events until the daemon has taken them, in order. Its queue is
// unbounded, so that Put never waits.
type Outbox struct {
	publisher Publisher
	// gate is shut while nothing may be sent.
	gate gate.Gate
	// wake holds a token when the sender should look again at once; capacity 1.
	wake chan struct{}

	mu sync.Mutex
	// +checklocks:mu
	queue []*types.Envelope
	// +checklocks:mu
	away bool // the last attempt found no daemon
	// idle is closed while there is nothing to send or nobody to send it to.
	// +checklocks:mu
	idle chan struct{}
}

// NewOutbox returns an Outbox that sends through p while Run runs.
func NewOutbox(p Publisher) *Outbox {
	o := &Outbox{publisher: p, wake: make(chan struct{}, 1), idle: make(chan struct{})}
	close(o.idle)
	return o
}

// Put queues an event behind all others. It never waits.
func (o *Outbox) Put(e *types.Envelope) {
	o.mu.Lock()
	o.queue = append(o.queue, e)
	o.updateLocked()
	o.mu.Unlock()
	o.nudge()
}

// Flush waits until the daemon has taken everything, or turns out to be away, or
// ctx ends.
func (o *Outbox) Flush(ctx context.Context) {
	o.setAway(false) // it may be back
	o.nudge()
	o.mu.Lock()
	idle := o.idle
	o.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// taken removes the oldest event.
func (o *Outbox) taken() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue[0], o.queue, o.away = nil, o.queue[1:], false
	if len(o.queue) == 0 {
		o.queue = nil // give a burst's memory back
	}
	o.updateLocked()
}

func (o *Outbox) setAway(away bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away = away
	o.updateLocked()
}

// updateLocked opens or closes idle after a change; the caller holds o.mu.
// +checklocks:o.mu
func (o *Outbox) updateLocked() {
	was := false
	select {
	case <-o.idle:
		was = true
	default:
	}
	switch is := len(o.queue) == 0 || o.away; {
	case is && !was:
		close(o.idle)
	case was && !is:
		o.idle = make(chan struct{})
	}
}

func (o *Outbox) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// first returns the oldest event, nil if there is none.
func (o *Outbox) first() *types.Envelope {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return nil
	}
	return o.queue[0]
}

// Run sends events, in the caller's goroutine, until ctx ends.
func (o *Outbox) Run(ctx context.Context) {
	pause, failed := retryFirst, 0
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
		err := o.send(ctx, e)
		if err == nil {
			if failed > 0 {
				logrus.WithField("attempts", failed+1).Info("the daemon takes events again")
			}
			pause, failed = retryFirst, 0
			continue
		}
		if failed++; failed == 1 {
			logrus.WithError(err).Warn("the daemon does not take an event; it is kept and sent again")
		}
		o.setAway(errors.Is(err, publish.ErrAway))
		if errors.Is(err, publish.ErrNoConnection) {
			pause = retryFirst
			if !o.wait(ctx, retryAway) {
				return
			}
			continue
		}
		if !o.wait(ctx, pause) {
			return
		}
		pause = min(2*pause, retryMost)
	}
}

// send makes one attempt to send the oldest event, and removes it if it was
// taken.
func (o *Outbox) send(ctx context.Context, e *types.Envelope) error {
	o.gate.Enter()
	defer o.gate.Leave()
	err := guard.Call("publish", func() error { return o.publisher.Publish(ctx, e) })
	if err == nil {
		o.taken()
	}
	return err
}

// queued returns the events that the daemon has not taken yet.
func (o *Outbox) queued() []*types.Envelope {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.queue)
}

// wait waits for d, or until nudge is called. It returns false if ctx has ended.
func (o *Outbox) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-o.wake:
	case <-ctx.Done():
		return false
	}
	return true
}
