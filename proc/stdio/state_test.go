// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The table, cell by cell.
func TestOutputTable(t *testing.T) {
	want := map[outputState][outputEvents]outputState{
		//         release   end       flushed   over
		held:     {copying, held, held, closed},
		copying:  {copying, flushing, copying, closed},
		flushing: {flushing, flushing, waiting, closed},
		waiting:  {waiting, waiting, waiting, closed},
		closed:   {closed, closed, closed, closed},
	}
	for s := range outputStates {
		for e := range outputEvents {
			if got := s.after(e); got != want[s][e] || got < s {
				t.Errorf("state %d, event %d: %d, want %d, and never back", s, e, got, want[s][e])
			}
		}
	}
}

// One deadline for both ends, in each state.
func TestOutputDeadline(t *testing.T) {
	const linger = time.Minute
	start := time.Unix(1000, 0)
	deleted := start.Add(time.Hour)
	never := time.Time{}
	for name, tt := range map[string]struct {
		facts
		want time.Time
	}{
		"running, idle":            {facts{state: copying, moved: start}, never},
		"running, blocked":         {facts{state: copying, moved: start, blocked: true, kept: true}, never},
		"ended, nobody has come":   {facts{state: waiting, since: start, moved: start, unread: true}, never},
		"ended, nothing is left":   {facts{state: waiting, since: start, met: true}, start.Add(linger)},
		"ended, nothing ever came": {facts{state: waiting, since: start}, start.Add(linger)},
		"deleted, held open idle":  {facts{state: copying, moved: start, deleted: deleted, kept: true}, deleted.Add(linger)},
		"deleted, still flowing":   {facts{state: copying, moved: deleted.Add(time.Second), deleted: deleted, kept: true}, deleted.Add(linger)},
		"deleted, slowly read":     {facts{state: copying, moved: deleted.Add(time.Second), deleted: deleted, blocked: true, kept: true}, deleted.Add(linger + time.Second)},
		"deleted, last is written": {facts{state: flushing, moved: deleted.Add(time.Second), deleted: deleted, kept: true}, deleted.Add(linger + time.Second)},
		"terminal, exited":         {facts{state: copying, moved: deleted, hangUp: deleted, blocked: true}, deleted},
		"terminal, all is read":    {facts{state: flushing, moved: deleted, hangUp: deleted}, never},
		"deleted, nobody reads":    {facts{state: copying, moved: start, deleted: deleted, blocked: true, kept: true}, deleted.Add(linger)},
		"deleted, client is slow":  {facts{state: copying, moved: start, deleted: deleted, blocked: true}, never},
		"deleted, hung up, slow":   {facts{state: flushing, moved: start, deleted: deleted, blocked: true}, never},
		"deleted, nobody has come": {facts{state: waiting, since: start, moved: start, deleted: deleted, unread: true}, deleted.Add(linger)},
		"deleted, nothing is left": {facts{state: waiting, since: start, deleted: deleted, met: true}, deleted},
		"deleted, nothing at all":  {facts{state: waiting, since: deleted, deleted: deleted}, deleted.Add(linger)},
	} {
		if got := tt.deadline(linger); !got.Equal(tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// Orders are only added to; the first Delete counts.
func TestOrders(t *testing.T) {
	first, second := time.Unix(1, 0), time.Unix(2, 0)
	got := orders{released: true, deleted: first}.plus(orders{aborted: true, deleted: second}).plus(orders{hungUp: true})
	if want := (orders{released: true, aborted: true, hungUp: true, deleted: first}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// AwaitOutput waits for what moves, and for nothing else.
func TestAwaitOutput(t *testing.T) {
	limits := Limits{Drain: 1500 * time.Millisecond}
	const longest = 6 * time.Second
	for name, tt := range map[string]struct {
		moves   time.Duration // a byte moves as often
		drained time.Duration // all is copied then
		want    time.Duration
	}{
		"all is copied":     {time.Hour, 0, 0},
		"soon copied":       {time.Hour, time.Second, time.Second},
		"blocked, or idle":  {time.Hour, time.Hour, limits.Drain},
		"flows, and ends":   {time.Second, 4500 * time.Millisecond, 4500 * time.Millisecond},
		"flows without end": {time.Second, time.Hour, longest},
		"stops to flow":     {1400 * time.Millisecond, time.Hour, longest},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &output{}
				s := &Streams{limits: limits, drained: make(chan struct{}), outputs: []*output{o}}
				start := time.Now()
				o.setMoved(start)
				time.AfterFunc(tt.drained, func() { close(s.drained) })
				stop := make(chan struct{})
				defer close(stop)
				go func() {
					for {
						select {
						case <-time.After(tt.moves):
							o.setMoved(time.Now())
						case <-stop:
							return
						}
					}
				}()
				s.AwaitOutput(longest)
				if got := time.Since(start); got != tt.want {
					t.Errorf("returned after %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// TestMovedIsMonotonic: whether output flows does not depend on the wall clock.
func TestMovedIsMonotonic(t *testing.T) {
	var o output
	before := time.Now()
	o.setMoved(before)
	if at := o.movedAt(); !at.Equal(before) || !strings.Contains(at.String(), " m=") {
		t.Errorf("moved at %v, want %v", at, before)
	}
}
