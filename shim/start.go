// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"slices"
	"time"
)

// stage is how far a start has come, as far as an exit waits for it.
type stage int

const (
	underway stage = iota // the runtime is at work, or the reply is not written yet
	replied               // the reply is written; the daemon publishes the start
	asked                 // a State came, which may be another's
	settled               // nothing is waited for any more
	refused               // there is no process, or it may not live: its exit is not told
)

// start is one attempt to start a process, from its beginning to the moment
// when the daemon has published it. Its fields are guarded by exits.mu.
//
// containerd publishes the start of a process after our reply to Start, and
// every version asks for the State of it next, on the same connection. An exit
// that overtakes the start is lost on dockerd: it looks an exit's pid up where
// it stores it after Start, and only the start event, which waits for that,
// keeps the exit event behind it in order (moby daemon/monitor.go). So an exit
// waits for that State.
//
// On the same connection come the States that clients of the daemon ask for.
// Where one was seen before the reply, somebody polls, and where the daemon has
// not read all that was written to it, it may stand still: the State then only
// begins the wait of Limits.Doubt.
type start struct {
	owner     owner
	own       bool // the container's own process
	stage     stage
	repliedAt time.Time
	askedAt   time.Time
	on        *conn         // that of the reply
	number    int           // of an adopted connection that is yet to be on
	polled    bool          // a State of the process was asked for before the reply
	dead      bool          // the process's exit was taken
	returned  chan struct{} // closed when the runtime has returned
	// kill ends the runtime's work, for the container's own process while it
	// is not there yet.
	kill context.CancelCauseFunc
}

// begin notes that o is being started; own says that it is the container's own
// process, and kill ends the start. It returns nil if no exec may be started any
// more.
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
// whether the start has succeeded: not that of an exec that lives in a container
// that has died meanwhile.
func (x *exits) ended(st *start, left outcome) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	defer x.nudge()
	close(st.returned)
	switch {
	case st.own && left == noProcess: // its exit counts, whatever becomes of its start
		st.stage = max(st.stage, settled)
		return false
	case st.own, left == aliveProcess && !x.closing, left == deadProcess && !x.told:
		return true
	}
	st.stage = refused
	return false
}

// outcome is what a start has left.
type outcome int

const (
	noProcess outcome = iota
	aliveProcess
	deadProcess
)

// settleAll ends all waiting for the daemon.
func (x *exits) settleAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, st := range x.starts {
		st.stage = max(st.stage, settled)
	}
	x.nudge()
}

// settle ends the waiting for the daemon: the caller of the start gets an error,
// or the process is to be deleted, by who has seen it start.
func (x *exits) settle(st *start) {
	x.mu.Lock()
	defer x.mu.Unlock()
	st.stage = max(st.stage, settled)
	x.nudge()
}

// forget drops what is known of the start of a process that was deleted.
func (x *exits) forget(o owner) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if st := x.starts[o.ID()]; st != nil && st.owner == o {
		st.stage = max(st.stage, settled)
		delete(x.starts, o.ID())
		x.nudge()
	}
}

// starting returns the latest start of o, nil if there was none.
func (x *exits) starting(o owner) *start {
	x.mu.Lock()
	defer x.mu.Unlock()
	if st := x.starts[o.ID()]; st != nil && st.owner == o {
		return st
	}
	return nil
}

// close lets no exec be started any more. It returns the owners of those that
// were, and are not known to be dead: one whose runtime has not returned yet is
// refused when it does.
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

// The connections tell the next three; see conn.

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
	case "Create": // its event is nothing that an exit must not overtake
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
