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

	"containerd-shim.v1/shim/publish"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// script is a publisher that takes an event if take returns nil.
type script struct {
	attempts []string
	taken    []string
	last     time.Time // when the latest event was taken
	take     func(attempt int, topic string) error
}

func (s *script) Publish(_ context.Context, e *types.Envelope) error {
	s.attempts = append(s.attempts, e.Topic)
	if s.take != nil {
		if err := s.take(len(s.attempts), e.Topic); err != nil {
			return err
		}
	}
	s.taken, s.last = append(s.taken, e.Topic), time.Now()
	return nil
}

// at returns an event of that second, with name as its topic.
func at(second int64, name string) *types.Envelope {
	return &types.Envelope{Topic: name, Timestamp: &timestamppb.Timestamp{Seconds: second}}
}

// inBubble runs fn with an outbox that is running.
func inBubble(t *testing.T, s *script, fn func(o *Outbox)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o := NewOutbox(s)
		ended := make(chan struct{})
		go func() { defer close(ended); o.Run(ctx) }()
		fn(o)
		cancel()
		<-ended
	})
}

var (
	errRefused = errors.New("refused")
	errAway    = fmt.Errorf("connect: %w", publish.ErrAway)
)

// forAnHour returns a take that answers with err for an hour from its first call.
func forAnHour(err error) func(int, string) error {
	var start time.Time
	return func(n int, _ string) error {
		if n == 1 {
			start = time.Now()
		}
		if time.Since(start) < time.Hour {
			return err
		}
		return nil
	}
}

// TestOutboxRetriesUntilTaken is B04: an exit is not dropped if the daemon is away,
// or refuses it, for an hour. It is sent once, soon after that.
func TestOutboxRetriesUntilTaken(t *testing.T) {
	for _, c := range []struct {
		err  error
		late time.Duration
	}{{errRefused, retryMost}, {errAway, retryAway}} {
		s := &script{take: forAnHour(c.err)}
		inBubble(t, s, func(o *Outbox) {
			start := time.Now()
			for i := range 3 {
				o.Put(at(int64(i), fmt.Sprint(i)))
			}
			<-time.After(2 * time.Hour) // in fake time
			synctest.Wait()
			if late := s.last.Sub(start) - time.Hour; late > c.late {
				t.Errorf("%v: sent %v after the daemon came back, want at most %v", c.err, late, c.late)
			}
		})
		if want := []string{"0", "1", "2"}; !slices.Equal(s.taken, want) {
			t.Errorf("%v: taken %q, want %q", c.err, s.taken, want)
		}
		if most := int(time.Hour/c.late) + 20; len(s.attempts) > most {
			t.Errorf("%v: %d attempts in an hour, want at most %d", c.err, len(s.attempts), most)
		}
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
		o.Flush(context.Background())
		start := time.Now()
		o.Put(at(2, "b"))
		o.Flush(context.Background())
		if d := time.Since(start); d > retryFirst {
			t.Errorf("second event took %v, want %v", d, retryFirst)
		}
	})
}

// TestOutboxOrder: events are sent in the order of Put, and one that was taken is
// not sent again, whatever follows it.
func TestOutboxOrder(t *testing.T) {
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
		o.Flush(context.Background())
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

// TestFlushWaitsForADaemonThatIsThere is F21: Delete holds its answer back for a
// daemon that is there or back again, but not for one that is away.
func TestFlushWaitsForADaemonThatIsThere(t *testing.T) {
	for _, c := range []struct {
		name     string
		back     bool // when Flush is called
		err      error
		held     time.Duration
		attempts int
	}{
		{"away", false, errAway, 0, 1},
		{"away, and back", true, errAway, 0, 1},
		{"refuses", false, errRefused, time.Minute, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			back := false
			s := &script{take: func(int, string) error {
				if back {
					return nil
				}
				return c.err
			}}
			inBubble(t, s, func(o *Outbox) {
				o.Put(at(1, "a"))
				<-time.After(10 * time.Second) // in fake time
				<-time.After(retryMost / 3)    // in fake time, in the middle of a pause
				synctest.Wait()
				back = c.back
				attempts, start := len(s.attempts), time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				o.Flush(ctx)
				if d := time.Since(start); d != c.held {
					t.Errorf("held for %v, want %v", d, c.held)
				}
				synctest.Wait()
				if got := len(s.attempts) - attempts; got < c.attempts {
					t.Errorf("%d attempts meanwhile, want %d", got, c.attempts)
				}
				if c.back && len(s.taken) != 1 {
					t.Error("not taken")
				}
			})
		})
	}
}

// TestOutboxPutNeverWaits is B05: nothing depends on the publisher.
func TestOutboxPutNeverWaits(t *testing.T) {
	release := make(chan struct{})
	s := &script{take: func(int, string) error { <-release; return nil }}
	o := NewOutbox(s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); o.Run(ctx) }()
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
	o.Flush(short)
	if short.Err() == nil {
		t.Error("flushed while the publisher hangs")
	}
	close(release)
	o.Flush(ctx)
	if len(s.taken) != 10000 {
		t.Errorf("%d taken", len(s.taken))
	}
	cancel()
	receive(t, "end of the outbox", ended)
}
