// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"slices"
	"time"
)

// stage is how far a start has come, in the steps for which an exit waits. It
// only grows.
type stage int

const (
	underway stage = iota // the runtime is at work, or the reply is not written yet
	replied               // the reply is written; the daemon publishes the start
	asked                 // a State has come, which may be another client's
	settled               // the exit need not wait any more
	refused               // there is no process, or it may not live: its exit is never sent
)

// start is one attempt to start a process, from its beginning to the moment
// when the daemon has published it. Its fields are guarded by exits.mu.
//
// containerd publishes the start of a process after our reply to Start, and
// then, in every version, asks for the process's State on the same connection.
// An exit that overtakes the start is lost on dockerd: it finds the process of an
// exit by the pid, which it stores after Start has returned; only the start event,
// whose handling waits for that, keeps an exit event behind it in order (moby
// daemon/monitor.go). So an exit waits for that State.
//
// The States that the daemon's clients ask for come on the same connection. If
// one was seen before the reply, somebody polls; if the daemon has not read all
// that was written to it, it may be standing still. In both cases the State only
// begins the wait of Limits.Doubt.
type start struct {
	owner     owner
	own       bool // it is the container's own process
	stage     stage
	repliedAt time.Time
	askedAt   time.Time
	on        *conn         // where the reply was sent; nil before it, and if that is closed
	number    int           // of the adopted connection that will become on; 0 without one
	polled    bool          // a State of the process was asked for before the reply
	dead      bool          // the process's exit was taken
	returned  chan struct{} // closed when the runtime has returned
	// kill ends the runtime's call. It is used for the container's own process
	// while that does not exist yet.
	kill context.CancelCauseFunc
}

// begin notes that o is being started; own says that it is the container's own
// process, and kill ends the start. It returns nil if o is an exec and no exec may
// be started any more.
func (x *exits) begin(o owner, own bool, kill context.CancelCauseFunc) *start {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closing && !own {
		return nil
	}
	st := &start{owner: o, own: own, returned: make(chan struct{}), kill: kill}
	x.starts[o.ID()] = st
	return st
}

// ended notes that the runtime has returned, and what it has left. It reports
// whether the start counts as a success. An exec that is alive although its
// container has died meanwhile does not; the caller kills it.
func (x *exits) ended(st *start, left outcome) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	defer x.nudge()
	close(st.returned)
	switch {
	case st.own && left == noProcess: // if there is a process, its exit counts all the same
		st.stage = max(st.stage, settled)
		return false
	case st.own, left == aliveProcess && !x.closing, left == deadProcess && !x.told:
		return true
	}
	st.stage = refused
	return false
}

// outcome is what a start has left behind.
type outcome int

const (
	noProcess outcome = iota
	aliveProcess
	deadProcess
)

// settleAll ends the wait for the daemon of every start.
func (x *exits) settleAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, st := range x.starts {
		st.stage = max(st.stage, settled)
	}
	x.nudge()
}

// settle ends the wait for the daemon. It is called when the caller of the start
// gets an error, and when the process is to be deleted: whoever asks for that has
// seen it start. st may be nil, for one that is not known any more.
func (x *exits) settle(st *start) {
	if st == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	st.stage = max(st.stage, settled)
	x.nudge()
}

// forget drops the start of a process that was deleted.
func (x *exits) forget(o owner) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if st := x.starts[o.ID()]; st != nil && st.owner == o {
		st.stage = max(st.stage, settled)
		delete(x.starts, o.ID())
		x.nudge()
	}
}

// starting returns the latest start of o, or nil if there was none.
func (x *exits) starting(o owner) *start {
	x.mu.Lock()
	defer x.mu.Unlock()
	if st := x.starts[o.ID()]; st != nil && st.owner == o {
		return st
	}
	return nil
}

// close forbids further starts of execs. It returns the execs that were started
// and are not known to be dead; one whose runtime has not returned yet is refused
// when it does.
func (x *exits) close() (living []owner) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closing = true
	for _, st := range x.starts {
		if !st.own && !st.dead && st.stage != refused {
			living = append(living, st.owner)
		}
	}
	return living
}

// isClosing reports whether close was called.
func (x *exits) isClosing() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.closing
}

// clear notes that what was left in the dead container was killed.
func (x *exits) clear() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cleared = true
	x.nudge()
}

// The connections call the next three; see watcher.

// answered notes that a call of method for id was answered without an error,
// on c.
func (x *exits) answered(c *conn, method, id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	st := x.starts[id]
	if st == nil || st.stage != underway {
		return
	}
	switch method {
	case "Start":
		st.stage, st.repliedAt, st.on = replied, time.Now(), c
	case "Create": // an exit may overtake the event of a creation
		st.stage = settled
	}
	x.nudge()
}

// asked notes that the State of id is asked for on c.
func (x *exits) asked(c *conn, id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	st := x.starts[id]
	switch {
	case st == nil:
		return
	case st.stage == underway:
		st.polled = true
		return
	case st.stage != replied || st.on != c:
		return
	case st.polled || c.unread():
		st.stage, st.askedAt = asked, time.Now()
	default:
		st.stage = settled
	}
	x.nudge()
}

// disconnected notes that nothing more will come on c, and that the calls that
// were to start these processes will not be answered.
func (x *exits) disconnected(c *conn, unanswered []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, st := range x.starts {
		if st.on == c || slices.Contains(unanswered, id) {
			st.stage = max(st.stage, settled)
		}
	}
	x.nudge()
}
