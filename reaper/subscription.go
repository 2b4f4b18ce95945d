// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"context"
	"sync"
)

// Subscription receives every exit that the Reaper sees from Subscribe on, in
// the order of death. An exit that is claimed later comes a second time, then with
// its Owner. The queue grows as needed: a subscriber that stops reading costs
// memory, never another subscriber's time.
type Subscription struct {
	r *Reaper
	// ready holds one token while queue is not empty; sent to without waiting,
	// never closed.
	ready chan struct{}

	mu sync.Mutex
	// +checklocks:mu
	queue []Exit
}

// Subscribe starts a Subscription. The caller must Close it.
func (r *Reaper) Subscribe() *Subscription {
	s := &Subscription{r: r, ready: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subs[s] = struct{}{}
	return s
}

// Next returns the oldest exit not yet returned, waiting for one if need be,
// or ctx's error.
func (s *Subscription) Next(ctx context.Context) (Exit, error) {
	for {
		if e, ok := s.Pop(); ok {
			return e, nil
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return Exit{}, ctx.Err()
		}
	}
}

// Ready receives a value when Pop may have something to return. It is never
// closed, and has one receiver at a time.
func (s *Subscription) Ready() <-chan struct{} { return s.ready }

// Close ends the subscription; exits still queued are dropped.
func (s *Subscription) Close() {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	delete(s.r.subs, s)
}

// Pop returns the oldest exit not yet returned, if there is one.
func (s *Subscription) Pop() (Exit, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return Exit{}, false
	}
	e := s.queue[0]
	s.queue = s.queue[1:]
	if len(s.queue) == 0 {
		s.queue = nil // give a burst's memory back
	}
	return e, true
}

func (s *Subscription) push(e Exit) {
	s.mu.Lock()
	s.queue = append(s.queue, e)
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}
