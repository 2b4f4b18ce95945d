// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"testing"
	"testing/synctest"
	"time"
)

// held returns how long the reply holds an exit of "e" while fn goes on.
func held(t *testing.T, fn func(s *Supervisor)) (d time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := NewSupervisor(nil, nil)
		start := time.Now()
		done := make(chan time.Duration, 1)
		ready := make(chan struct{})
		go func() {
			<-ready
			s.awaitReply("e")
			done <- time.Since(start)
		}()
		go func() {
			fn(s)
		}()
		synctest.Wait() // what fn does at once is done
		close(ready)
		d = <-done
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.replies) != 0 {
			t.Errorf("%d replies are remembered", len(s.replies))
		}
	})
	return d
}

// TestExitWaitsForTheStart: an exit is held until the daemon asks for the State
// after the reply, and never longer than a bound.
func TestExitWaitsForTheStart(t *testing.T) {
	for _, c := range []struct {
		name string
		fn   func(s *Supervisor)
		want time.Duration
	}{
		{"no start", func(*Supervisor) {}, 0},
		{"asked after the reply", func(s *Supervisor) { s.beginReply("e").done(); s.notice("e") }, 0},
		{"asked soon", func(s *Supervisor) {
			r := s.beginReply("e")
			time.Sleep(5 * time.Second) // fake time
			r.done()
			time.Sleep(10 * time.Millisecond)
			s.notice("e")
		}, 5*time.Second + 10*time.Millisecond},
		{"never asked", func(s *Supervisor) { s.beginReply("e").done() }, noticeWait},
		{"asked only before the reply", func(s *Supervisor) {
			r := s.beginReply("e")
			s.notice("e")
			time.Sleep(time.Second)
			r.done()
		}, time.Second + noticeWait},
		{"never replied", func(s *Supervisor) { s.beginReply("e") }, replyWait},
		{"another asked", func(s *Supervisor) { s.beginReply("e").done(); s.notice("f") }, noticeWait},
		{"a second call while one is on its way", func(s *Supervisor) {
			r := s.beginReply("e")
			s.beginReply("e").done() // refused at once; the first one counts
			time.Sleep(time.Second)
			r.done()
			s.notice("e")
		}, time.Second},
	} {
		if got := held(t, c.fn); got != c.want {
			t.Errorf("%s: held for %v, want %v", c.name, got, c.want)
		}
	}
}
