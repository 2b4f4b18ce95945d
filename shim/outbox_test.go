// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// script is a publisher: it takes an event when its function says so.
type script struct {
	attempts []string
	taken    []string
	take     func(attempt int, topic string) error
}

func (s *script) Publish(_ context.Context, e *types.Envelope) error {
	s.attempts = append(s.attempts, e.Topic)
	if s.take != nil {
		if err := s.take(len(s.attempts), e.Topic); err != nil {
			return err
		}
	}
	s.taken = append(s.taken, e.Topic)
	return nil
}

// at is an event; its topic is its name.
func at(second int64, name string) *types.Envelope {
	return &types.Envelope{Topic: name, Timestamp: &timestamppb.Timestamp{Seconds: second}}
}

// inBubble runs fn with an outbox that is running.
func inBubble(t *testing.T, s *script, fn func(o *Outbox)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o := NewOutbox(s)
		go o.Run(ctx)
		fn(o)
		cancel()
		<-o.ended
	})
}

var errRefused = errors.New("refused")

// TestOutboxRetriesUntilTaken is B04: an exit is not dropped because the daemon
// was away, here for an hour, and comes once.
func TestOutboxRetriesUntilTaken(t *testing.T) {
	start := time.Time{}
	s := &script{take: func(int, string) error {
		if time.Since(start) < time.Hour {
			return errRefused
		}
		return nil
	}}
	inBubble(t, s, func(o *Outbox) {
		start = time.Now()
		for i := range 3 {
			o.Put(at(int64(i), fmt.Sprint(i)))
		}
		if err := o.Flushed(context.Background()); err != nil {
			t.Error(err)
		}
		if late := time.Since(start) - time.Hour; late > retryMost {
			t.Errorf("sent %v after the daemon came back, want at most %v", late, retryMost)
		}
	})
	if want := []string{"0", "1", "2"}; !slices.Equal(s.taken, want) {
		t.Errorf("taken %q, want %q", s.taken, want)
	}
	if most := int(time.Hour/retryMost) + 20; len(s.attempts) > most {
		t.Errorf("%d attempts in an hour, want at most %d", len(s.attempts), most)
	}
}

// TestOutboxPauseStartsAnew: after a success the next failure is retried soon.
func TestOutboxPauseStartsAnew(t *testing.T) {
	s := &script{take: func(n int, _ string) error {
		if n <= 20 || n == 22 {
			return errRefused
		}
		return nil
	}}
	inBubble(t, s, func(o *Outbox) {
		o.Put(at(1, "a"))
		_ = o.Flushed(context.Background())
		start := time.Now()
		o.Put(at(2, "b"))
		_ = o.Flushed(context.Background())
		if d := time.Since(start); d > retryFirst {
			t.Errorf("second event took %v, want %v", d, retryFirst)
		}
	})
}

// TestOutboxOrder: by time of death, but never before what may be on its way.
func TestOutboxOrder(t *testing.T) {
	s := &script{take: func(n int, _ string) error {
		if n == 1 {
			return errRefused
		}
		return nil
	}}
	inBubble(t, s, func(o *Outbox) {
		o.Put(at(50, "first"))
		synctest.Wait() // it is on its way
		for _, e := range []*types.Envelope{at(30, "c"), at(10, "a"), at(40, "e"), at(20, "b"), at(30, "d")} {
			o.Put(e)
		}
		_ = o.Flushed(context.Background())
	})
	if want := []string{"first", "a", "b", "c", "d", "e"}; !slices.Equal(s.taken, want) {
		t.Errorf("taken %q, want %q", s.taken, want)
	}
}

// TestOutboxNeverTwice: what was taken is not sent again, whatever follows it.
func TestOutboxNeverTwice(t *testing.T) {
	s := &script{take: func(n int, _ string) error {
		if n%3 != 0 {
			return errRefused
		}
		return nil
	}}
	const n = 500
	inBubble(t, s, func(o *Outbox) {
		for i := range n {
			o.Put(at(int64(i), fmt.Sprint(i)))
		}
		if got := o.Len(); got == 0 || got > n {
			t.Errorf("Len = %d", got)
		}
		_ = o.Flushed(context.Background())
		if got := o.Len(); got != 0 {
			t.Errorf("Len after Flushed = %d", got)
		}
	})
	for i, topic := range s.taken {
		if topic != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, topic)
		}
	}
	if len(s.taken) != n {
		t.Fatalf("%d taken, want %d", len(s.taken), n)
	}
}

// TestOutboxPutNeverWaits is B05: nothing depends on the publisher.
func TestOutboxPutNeverWaits(t *testing.T) {
	release := make(chan struct{})
	s := &script{take: func(int, string) error { <-release; return nil }}
	o := NewOutbox(s)
	ctx, cancel := context.WithCancel(t.Context())
	go o.Run(ctx)
	put := make(chan struct{})
	go func() {
		defer close(put)
		for i := range 10000 {
			o.Put(at(int64(i), "x"))
		}
	}()
	receive(t, "10,000 events put while the publisher hangs", put)
	short, end := context.WithTimeout(ctx, 10*time.Millisecond)
	defer end()
	if err := o.Flushed(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Flushed with a full queue: %v", err)
	}
	close(release)
	if err := o.Flushed(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	receive(t, "end of the outbox", o.ended)
}

func TestOutboxEmptyIsFlushed(t *testing.T) {
	if err := NewOutbox(&script{}).Flushed(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOutboxHeldKeepsItsPlace is B02: an exit that waits for the daemon to
// notice a start is not passed by the exits after it, and does not keep back
// one before it that comes late.
func TestOutboxHeldKeepsItsPlace(t *testing.T) {
	s := &script{}
	inBubble(t, s, func(o *Outbox) {
		due := make(chan struct{})
		o.PutHeld(at(2, "young"), due)
		synctest.Wait()
		o.Put(at(3, "later"))
		o.Put(at(1, "earlier"))
		synctest.Wait()
		if want := []string{"earlier"}; !slices.Equal(s.taken, want) {
			t.Errorf("while one is held: got %v, want %v", s.taken, want)
		}
		close(due)
		synctest.Wait()
		if want := []string{"earlier", "young", "later"}; !slices.Equal(s.taken, want) {
			t.Errorf("at the end: got %v, want %v", s.taken, want)
		}
	})
}
