// SPDX-License-Identifier: Apache-2.0

package stdio

import "time"

// outputState is how far an output has come. It only ever grows.
type outputState int

const (
	// held: what comes is kept back, for it may be the runtime's own words: the
	// start has not succeeded yet.
	held outputState = iota
	// copying: from the process to the client.
	copying
	// flushing: the process's end is closed; what was read of it is not
	// written yet.
	flushing
	// waiting: all is in the FIFO, whose reader is yet to come.
	waiting
	// closed: at both ends.
	closed

	outputStates
)

// outputEvent is what changes the state.
type outputEvent int

const (
	// release: the start has succeeded, or more came than can be kept back.
	release outputEvent = iota
	// end: the process, and all that inherited its output, are gone, or the
	// process's end is given up.
	end
	// flushed: nothing that was read is left to be written.
	flushed
	// over: the client's end is served, broken or given up.
	over

	outputEvents
)

// outputTable holds the state after each event. What has ended while it was
// held ends again once it is copied.
var outputTable = [outputStates][outputEvents]outputState{
	held:     {release: copying, end: held, flushed: held, over: closed},
	copying:  {release: copying, end: flushing, flushed: copying, over: closed},
	flushing: {release: flushing, end: flushing, flushed: waiting, over: closed},
	waiting:  {release: waiting, end: waiting, flushed: waiting, over: closed},
	closed:   {release: closed, end: closed, flushed: closed, over: closed},
}

func (s outputState) after(e outputEvent) outputState { return outputTable[s][e] }

// orders are what the process's life cycle means for its outputs. They are only ever
// added to.
type orders struct {
	released bool      // the start has succeeded
	aborted  bool      // it has failed: nothing more reaches the client
	hungUp   bool      // the process's end is to be closed, after what is in it was read
	exited   time.Time // when the process had; those that it leaves behind may have its streams
	deleted  time.Time // when the process was deleted; zero before
}

// plus returns both orders in one.
func (o orders) plus(p orders) orders {
	o.released = o.released || p.released
	o.aborted = o.aborted || p.aborted
	o.hungUp = o.hungUp || p.hungUp
	if o.exited.IsZero() {
		o.exited = p.exited
	}
	if o.deleted.IsZero() {
		o.deleted = p.deleted
	}
	return o
}

// facts determine the deadline of an output.
type facts struct {
	state   outputState
	since   time.Time // when the state was reached
	deleted time.Time // see orders
	moved   time.Time // when a byte was moved last
	// blocked: there are bytes that the client's end does not take.
	blocked bool
	// kept: the shim itself keeps the client's end from breaking.
	kept bool
	// hangUp is when a terminal is given up whose process has exited; zero for never.
	hangUp time.Time
	// unread: there is something in the FIFO.
	unread bool
	// met: a reader was there.
	met bool
}

// deadline returns when the output is given up if nothing happens until then; zero
// for never. Before Delete only a terminal is given up that the process has left to
// others, and an end of file that no reader comes for: a missing client may be a daemon
// that is being restarted. After Delete there is one deadline for both ends: nothing has
// moved and no reader has come for that long. Output that has backed up behind a slow
// reader may be the process's own, and is kept; output that keeps up must by then come
// from processes that were left behind, and is given up even while it flows.
func (f facts) deadline(linger time.Duration) time.Time {
	switch {
	case f.state == copying && !f.hangUp.IsZero():
		return f.hangUp
	case f.state == waiting && !f.unread && f.met && !f.deleted.IsZero():
		return f.deleted
	case f.state == waiting && !f.unread:
		return f.since.Add(linger)
	case f.deleted.IsZero():
		return time.Time{}
	case f.state != waiting && f.blocked && !f.kept:
		return time.Time{} // with its last reader the FIFO breaks, and that ends it
	case f.moved.After(f.deleted) && (f.state != copying || f.blocked):
		return f.moved.Add(linger)
	}
	return f.deleted.Add(linger)
}
