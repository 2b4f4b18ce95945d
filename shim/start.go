// SPDX-License-Identifier: Apache-2.0

package shim

import "time"

// stage is how far a start has come, as far as an exit waits for it.
type stage int

const (
	underway stage = iota // the runtime is at work, or the reply is not written yet
	replied               // the reply is written; the daemon publishes the start
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
// waits for that State. Another client's proves nothing.
type start struct {
	owner     owner
	own       bool // the container's own process
	stage     stage
	repliedAt time.Time
	on        *conn // that of the reply
	dead      bool  // the process's exit was taken
	// returned is closed when the runtime has returned.
	returned chan struct{}
}

// begin notes that o is being started; own says that it is the container's own
// process. It returns nil if no exec may be started any more.
func (x *exits) begin(o owner, own bool) *start {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closing && !own {
		return nil
	}
	st := &start{owner: o, own: own, returned: make(chan struct{})}
	x.starts[o.ID()] = st
	return st
}

// ended notes that the runtime has returned; started says whether there is a
// process now. It reports whether that process may live: an exec may not if the
// container has died meanwhile.
func (x *exits) ended(st *start, started bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	defer x.nudge()
	close(st.returned)
	switch {
	case started && (st.own || !x.closing):
		return true
	case st.own: // its exit counts, whatever becomes of its start
		st.stage = max(st.stage, settled)
	default:
		st.stage = refused
	}
	return false
}

// settle ends the wait for the reply to a start: its caller gets an error.
func (x *exits) settle(st *start) {
	x.mu.Lock()
	defer x.mu.Unlock()
	st.stage = max(st.stage, settled)
	x.nudge()
}

// forget drops what is known of the start of a process that was deleted; who
// deletes it has seen it start.
func (x *exits) forget(o owner) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if st := x.starts[o.ID()]; st != nil && st.owner == o {
		st.stage = max(st.stage, settled)
		delete(x.starts, o.ID())
		x.nudge()
	}
}

// starting returns what is closed when the start of o that is underway has
// ended; nil if none is.
func (x *exits) starting(o owner) <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if st := x.starts[o.ID()]; st != nil && st.owner == o {
		return st.returned
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
	if st := x.starts[id]; st != nil && st.stage == replied && st.on == c {
		st.stage = settled
		x.nudge()
	}
}

// disconnected notes that nothing more will come on c.
func (x *exits) disconnected(c *conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, st := range x.starts {
		if st.stage == replied && st.on == c {
			st.stage = settled
		}
	}
	x.nudge()
}
