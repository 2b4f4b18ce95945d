// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/reaper"
)

// Limits bound how long an exit waits for what should come before it. They are
// the only time-outs between a death and its event.
type Limits struct {
	// Reply bounds, from the death on, the waits that a hanging runtime could
	// make endless: for the reply to the start of a process that is already dead,
	// and, for the container's own exit, for the exits of its execs. When the
	// container has been dead for as long, the verbs that are still at work on it
	// are ended.
	Reply time.Duration
	// Asked bounds the wait, after the reply to Start, for the State by which
	// the daemon shows that it has published the start; see start. An exec of a
	// container that has died waits no longer than Reply.
	Asked time.Duration
	// Doubt is the wait after a State that may be another client's. It begins
	// anew as long as the daemon has unread replies.
	Doubt time.Duration
}

// DefaultLimits are those of a shim in service. A daemon that is stopped or
// starved between our reply and its own event must find the exit unsent when it
// goes on, or dockerd would show the container as running for ever.
var DefaultLimits = Limits{Reply: 2 * time.Second, Asked: 15 * time.Second, Doubt: 100 * time.Millisecond}

// exits takes the exits of the container's processes from the reaper, in the
// order of death, has them recorded, and puts each into the outbox once what
// should come before it has come. One goroutine, that of run, does all of that;
// the other methods only note facts.
type exits struct {
	limits Limits
	// record makes an exit visible to State and Wait.
	record func(owner, reaper.Exit)
	// send puts one into the outbox.
	send func(id string, e reaper.Exit)
	// over is closed once the container's own exit is in the outbox.
	over chan struct{}
	// wake holds a token when something may be due; capacity 1.
	wake chan struct{}
	// gate is shut while no exit may be taken or sent. Whoever is inside owns
	// source; once nobody is, whoever has shut it does.
	gate   gate.Gate
	source source // set by run

	mu sync.Mutex
	// +checklocks:mu
	starts map[string]*start // the latest one of each process id
	// +checklocks:mu
	held []heldExit // exits of execs, in the order of death
	// +checklocks:mu
	last *heldExit // the container's own exit
	// +checklocks:mu
	told bool // last was sent
	// +checklocks:mu
	closing bool // no exec may be started any more
	// +checklocks:mu
	cleared bool // what was left in the dead container was killed
}

// owner is a process as the reaper knows it: a *proc.Init or *proc.Exec.
type owner interface{ ID() string }

// source is a reaper's Subscription.
type source interface {
	Pop() (reaper.Exit, bool)
	Ready() <-chan struct{}
}

func newExits(l Limits, record func(owner, reaper.Exit), send func(string, reaper.Exit)) *exits {
	return &exits{
		limits: l, record: record, send: send,
		over: make(chan struct{}), wake: make(chan struct{}, 1), starts: make(map[string]*start),
	}
}

// heldExit is an exit that is recorded but not sent yet.
type heldExit struct {
	reaper.Exit
	id    string
	taken time.Time // from the reaper
	start *start    // nil if it is no longer known
}

// due returns when the exit need no longer wait for its start, as far as is known
// at now; the zero time means at once. Its caller holds exits.mu.
func (h heldExit) due(l Limits, now time.Time) time.Time {
	st := h.start
	switch {
	case st == nil || st.stage >= settled:
		return time.Time{}
	case st.stage == underway:
		return h.taken.Add(l.Reply)
	case st.stage == asked:
		if !st.askedAt.Add(l.Doubt).After(now) && st.on.unread() {
			st.askedAt = now
		}
		if doubted := st.askedAt.Add(l.Doubt); doubted.Before(st.repliedAt.Add(l.Asked)) {
			return doubted
		}
	}
	return st.repliedAt.Add(l.Asked)
}

// run takes and sends exits until ctx ends.
func (x *exits) run(ctx context.Context, s source) {
	for {
		next := x.round(s)
		if !x.sleep(ctx, s, next) {
			return
		}
	}
}

// round takes the exits that are there and sends those that are due. next is when
// more will be due, zero if that does not depend on time.
func (x *exits) round(s source) (next time.Time) {
	x.gate.Enter()
	defer x.gate.Leave()
	x.source = s
	x.drain()
	due, last, next := x.release(time.Now())
	for _, h := range due {
		x.send(h.id, h.Exit)
	}
	if last {
		close(x.over)
	}
	return next
}

// drain takes all exits that the reaper has delivered.
func (x *exits) drain() {
	for e, ok := x.source.Pop(); ok; e, ok = x.source.Pop() {
		if o, ok := e.Owner.(owner); ok {
			x.take(o, e)
		}
	}
}

// rest takes all exits that the reaper has delivered; its caller has shut the gate.
// Its error says why the exits cannot be handed over yet.
func (x *exits) rest() error {
	if x.source == nil {
		return errors.New("the shim does not come to rest: it has only just started")
	}
	x.drain()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closing && !x.cleared { // the next program would not know that the container was paused
		return errors.New("the shim does not come to rest: what is left in the container is yet to be killed")
	}
	return nil
}

// sleep waits until there may be something to do, at most until next if that is
// not zero. It returns false if ctx has ended.
func (x *exits) sleep(ctx context.Context, s source, next time.Time) bool {
	var timeout <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-s.Ready():
	case <-x.wake:
	case <-timeout:
	case <-ctx.Done():
		return false
	}
	return true
}

// nudge makes run look again.
func (x *exits) nudge() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// take has one exit recorded and holds it.
func (x *exits) take(o owner, e reaper.Exit) {
	guard.Do("record an exit", func() { x.record(o, e) })
	x.mu.Lock()
	defer x.mu.Unlock()
	h := heldExit{Exit: e, id: o.ID(), taken: time.Now()}
	if st := x.starts[h.id]; st != nil && st.owner == o {
		st.dead, h.start = true, st
	}
	if h.start != nil && h.start.own {
		x.last = &h
		return
	}
	x.held = append(x.held, h)
	slices.SortStableFunc(x.held, func(a, b heldExit) int { return cmp.Compare(a.Seq, b.Seq) })
}

// release takes out the exits that are due at now, in the order in which they
// are to be sent. last reports whether the container's own is among them; next
// is when more will be due, zero if that does not depend on time.
func (x *exits) release(now time.Time) (due []heldExit, last bool, next time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	later := func(t time.Time) bool {
		if !t.After(now) {
			return false
		}
		if next.IsZero() || t.Before(next) {
			next = t
		}
		return true
	}
	// The container's own exit waits for those of its execs, but not for long:
	// then the exits that are there are sent, and it follows.
	hurry := x.last != nil && !later(x.last.taken.Add(x.limits.Reply))
	x.held = slices.DeleteFunc(x.held, func(h heldExit) bool {
		if h.start != nil && h.start.stage == refused {
			return true
		}
		if !hurry && later(h.due(x.limits, now)) {
			return false
		}
		due = append(due, h)
		return true
	})
	if len(x.held) == 0 {
		x.held = nil // give a burst's memory back
	}
	if x.last == nil || !hurry && !x.aloneLocked() || later(x.last.due(x.limits, now)) {
		return due, false, next
	}
	due, x.last, x.told = append(due, *x.last), nil, true
	return due, true, next
}

// aloneLocked reports whether the container's own exit is the last one that
// will come.
// +checklocks:x.mu
func (x *exits) aloneLocked() bool {
	for _, st := range x.starts {
		if !st.own && !st.dead && st.stage != refused {
			return false
		}
	}
	return x.cleared && len(x.held) == 0
}
