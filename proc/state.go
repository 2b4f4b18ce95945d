// SPDX-License-Identifier: Apache-2.0

package proc

import "fmt"

// Phase is where a process is in its life cycle. It says nothing about a verb in
// progress: a container whose "runc start" has not returned is Created.
type Phase int

// The phases, in the order in which a process passes them.
const (
	Created Phase = iota
	Running
	Pausing
	Paused
	Stopped
	Deleted
	phases // how many there are
)

var phaseNames = [phases]string{"created", "running", "pausing", "paused", "stopped", "deleted"}

func (p Phase) String() string {
	if p < 0 || p >= phases {
		return fmt.Sprintf("Phase(%d)", int(p))
	}
	return phaseNames[p]
}

// Event is what may happen to a process: a request that is about to be carried
// out, or a fact.
type Event int

// Requests come first; a request that the table allows leaves the phase alone,
// except WantPause, which shows at once. Facts are always allowed.
const (
	WantStart Event = iota
	WantPause
	WantResume
	WantDelete
	WantExec
	WantUpdate
	WantCheckpoint
	WantResize
	WantKill
	DidStart
	DidPause
	DidNotPause
	DidResume
	DidExit
	DidDelete
	events // how many there are
)

var eventNames = [events]string{
	"want-start", "want-pause", "want-resume", "want-delete", "want-exec", "want-update",
	"want-checkpoint", "want-resize", "want-kill",
	"did-start", "did-pause", "did-not-pause", "did-resume", "did-exit", "did-delete",
}

func (e Event) String() string {
	if e < 0 || e >= events {
		return fmt.Sprintf("Event(%d)", int(e))
	}
	return eventNames[e]
}

// cell is one entry of the table: the phase that follows, or why not.
type cell struct {
	to  Phase
	why string // not empty: refused, with the text that clients know from upstream
}

func to(p Phase) cell      { return cell{to: p} }
func no(why string) cell   { return cell{why: why} }
func gone(op string) cell  { return no("cannot " + op + " a deleted process") }
func (c cell) legal() bool { return c.why == "" }

// table has an entry for every phase and event. An exit is a fact in every
// phase, and no fact brings a stopped or deleted process back.
var table = [phases][events]cell{
	Created: {
		WantStart:      to(Created),
		WantPause:      no("cannot pause task in created state"),
		WantResume:     no("cannot resume task in created state"),
		WantDelete:     to(Created),
		WantExec:       to(Created),
		WantUpdate:     to(Created),
		WantCheckpoint: no("cannot checkpoint a task in created state"),
		WantResize:     to(Created),
		WantKill:       to(Created),
		DidStart:       to(Running),
		DidPause:       to(Created),
		DidNotPause:    to(Created),
		DidResume:      to(Created),
		DidExit:        to(Stopped),
		DidDelete:      to(Deleted),
	},
	Running: {
		WantStart:      no("cannot start a running process"),
		WantPause:      to(Pausing),
		WantResume:     no("cannot resume a running process"),
		WantDelete:     no("cannot delete a running process"),
		WantExec:       to(Running),
		WantUpdate:     to(Running),
		WantCheckpoint: to(Running),
		WantResize:     to(Running),
		WantKill:       to(Running),
		DidStart:       to(Running),
		DidPause:       to(Paused),
		DidNotPause:    to(Running),
		DidResume:      to(Running),
		DidExit:        to(Stopped),
		DidDelete:      to(Deleted),
	},
	Pausing: {
		WantStart:      no("cannot start a pausing process"),
		WantPause:      no("cannot pause a pausing container"),
		WantResume:     no("cannot resume a pausing process"),
		WantDelete:     no("cannot delete a pausing process"),
		WantExec:       no("cannot exec in a pausing state"),
		WantUpdate:     to(Pausing),
		WantCheckpoint: no("cannot checkpoint a pausing container"),
		WantResize:     to(Pausing),
		WantKill:       to(Pausing),
		DidStart:       to(Pausing),
		DidPause:       to(Paused),
		DidNotPause:    to(Running),
		DidResume:      to(Running),
		DidExit:        to(Stopped),
		DidDelete:      to(Deleted),
	},
	Paused: {
		WantStart:      no("cannot start a paused process"),
		WantPause:      no("cannot pause a paused container"),
		WantResume:     to(Paused),
		WantDelete:     no("cannot delete a paused process"),
		WantExec:       no("cannot exec in a paused state"),
		WantUpdate:     to(Paused),
		WantCheckpoint: to(Paused),
		WantResize:     to(Paused),
		WantKill:       to(Paused),
		DidStart:       to(Paused),
		DidPause:       to(Paused),
		DidNotPause:    to(Paused),
		DidResume:      to(Running),
		DidExit:        to(Stopped),
		DidDelete:      to(Deleted),
	},
	Stopped: {
		WantStart:      no("cannot start a stopped process"),
		WantPause:      no("cannot pause a stopped container"),
		WantResume:     no("cannot resume a stopped container"),
		WantDelete:     to(Stopped),
		WantExec:       no("cannot exec in a stopped state"),
		WantUpdate:     no("cannot update a stopped container"),
		WantCheckpoint: no("cannot checkpoint a stopped container"),
		WantResize:     to(Stopped),
		WantKill:       to(Stopped),
		DidStart:       to(Stopped),
		DidPause:       to(Stopped),
		DidNotPause:    to(Stopped),
		DidResume:      to(Stopped),
		DidExit:        to(Stopped),
		DidDelete:      to(Deleted),
	},
	Deleted: {
		WantStart:      gone("start"),
		WantPause:      gone("pause"),
		WantResume:     gone("resume"),
		WantDelete:     gone("delete"),
		WantExec:       no("cannot exec in a deleted state"),
		WantUpdate:     gone("update"),
		WantCheckpoint: gone("checkpoint"),
		WantResize:     gone("resize"),
		WantKill:       gone("kill"),
		DidStart:       to(Deleted),
		DidPause:       to(Deleted),
		DidNotPause:    to(Deleted),
		DidResume:      to(Deleted),
		DidExit:        to(Deleted),
		DidDelete:      to(Deleted),
	},
}

// next returns the phase after ev, or a *StateError.
func next(p Phase, ev Event) (Phase, error) {
	c := table[p][ev]
	if !c.legal() {
		return p, &StateError{Phase: p, Event: ev, why: c.why}
	}
	return c.to, nil
}
