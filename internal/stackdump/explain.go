// SPDX-License-Identifier: Apache-2.0

package stackdump

import "time"

// Grade is how bad a finding is.
type Grade string

// The grades, worst first.
const (
	// Deadlock is a closed cycle: it never resolves by itself.
	Deadlock Grade = "deadlock"
	// Stall has lasted a minute, or is a cycle that resolves itself: when its
	// cause ends, or after one second for each exit.
	Stall Grade = "stall"
	// Note is something that a shim at work shows for a moment: one dump cannot
	// tell whether it lasts.
	Note Grade = "note"
)

// The reasons of a finding that is a Deadlock.
const (
	ReaperDeadlock    = "ReaperDeadlock"
	PublisherDeadlock = "PublisherDeadlock"
	OtherDeadlock     = "Deadlock"
)

// Finding is one thing that goroutines of a dump wait for, and the known bug that
// may be behind it.
type Finding struct {
	Bug    string // number in the catalogue, such as "B01"
	Reason string // CamelCase, for tables and metrics, such as "ReaperDeadlock"
	Grade  Grade
	Title  string
	Cycle  []Link // who waits for whom
	Closed bool   // the last waits for the first
	// Since is the age of the finding. A cycle is as old as the wait of the last
	// goroutine that joined it, an open chain as the wait at its end.
	Since   time.Duration
	Blocked map[string]int // who else waits behind it, counted by name
	Advice  string
}

// Link is one goroutine of a finding and what it waits for.
type Link struct {
	Goroutine uint64
	Name      string
	State     string
	Since     time.Duration
	Waits     string
	Next      string // how the next link holds it up: "held by", "delivered by"
}

// Report is what Explain found.
type Report struct {
	Findings []Finding // deadlocks, then stalls; a healthy shim has none
	// Ongoing are the notes. A shim at work has some.
	Ongoing    []Finding
	Goroutines int
	Complete   bool
	Why        string
	// Requests counts the RPCs in progress by method, Wait included.
	Requests map[string]int
}

// Worst is the grade of the first finding, "" when there is none.
func (r *Report) Worst() Grade {
	if len(r.Findings) == 0 {
		return ""
	}
	return r.Findings[0].Grade
}

// Explain names the known deadlocks and stalls of a dump.
//
// It follows each waiting goroutine to the one that it waits for, until a
// goroutine comes up again (a deadlock) or something outside the shim is reached:
// a runc, a FIFO without a reader, a process that holds a pipe open. All
// goroutines whose chains end at the same place make one finding.
func Explain(d *Dump) *Report {
	g := newGraph(d)
	r := &Report{Goroutines: len(d.Goroutines), Complete: d.Complete, Why: d.Why, Requests: map[string]int{}}
	found := map[uint64]*Finding{} // by the goroutine that identifies the cycle or the chain's end
	var order []uint64
	for _, a := range g.waiters {
		if a.Serves {
			r.Requests[a.RPC]++
		}
		if a.BlockedOn == BlockedOnNothing {
			continue
		}
		path, cycle := g.follow(a)
		var chain []*Waiter
		if cycle >= 0 {
			chain = path[cycle:]
		} else {
			chain = path[max(0, len(path)-3):]
		}
		key := rootOf(chain, cycle >= 0)
		if f, ok := found[key]; ok {
			if !f.has(a.ID) {
				f.Blocked[a.name()]++
			}
			if cycle < 0 && len(chain) > len(f.Cycle) { // show the longest way to an outside cause
				f.restart(chain)
			}
			continue
		}
		f := &Finding{Blocked: map[string]int{}}
		f.set(chain, cycle >= 0)
		f.name(chain, cycle >= 0)
		if !f.has(a.ID) {
			f.Blocked[a.name()]++
		}
		found[key] = f
		order = append(order, key)
	}
	for _, grade := range []Grade{Deadlock, Stall, Note} {
		for _, key := range order {
			switch f := found[key]; {
			case f.Grade != grade:
			case grade == Note:
				r.Ongoing = append(r.Ongoing, *f)
			default:
				r.Findings = append(r.Findings, *f)
			}
		}
	}
	return r
}

// rootOf is the smallest goroutine id of a cycle, or the last of a chain.
func rootOf(chain []*Waiter, cycle bool) uint64 {
	if !cycle {
		return chain[len(chain)-1].ID
	}
	id := chain[0].ID
	for _, a := range chain {
		id = min(id, a.ID)
	}
	return id
}

func (f *Finding) has(id uint64) bool {
	for _, l := range f.Cycle {
		if l.Goroutine == id {
			return true
		}
	}
	return false
}

// restart replaces the chain with a longer one to the same end.
func (f *Finding) restart(chain []*Waiter) {
	old := f.Cycle
	f.set(chain, false)
	f.name(chain, false)
	for _, l := range old {
		if !f.has(l.Goroutine) {
			f.Blocked[l.Name]++
		}
	}
	for _, l := range f.Cycle {
		if f.Blocked[l.Name]--; f.Blocked[l.Name] <= 0 {
			delete(f.Blocked, l.Name)
		}
	}
}

func (f *Finding) set(chain []*Waiter, cycle bool) {
	f.Closed, f.Since = cycle, chain[len(chain)-1].Since
	chain = reaperFirst(chain)
	f.Cycle = f.Cycle[:0]
	for _, a := range chain {
		waits := string(a.BlockedOn)
		if a.Verb != "" {
			waits = a.Verb + " to exit"
		}
		f.Cycle = append(f.Cycle, Link{Goroutine: a.ID, Name: a.name(), State: a.State, Since: a.Since, Waits: waits, Next: next(a.BlockedOn)})
		if cycle {
			f.Since = min(f.Since, a.Since)
		}
	}
}

// reaperFirst turns a chain so that the reaper, if it is in it, comes first.
func reaperFirst(chain []*Waiter) []*Waiter {
	for i, a := range chain {
		if a.Role == RoleReaper || a.Role == RoleNotifier {
			return append(append([]*Waiter{}, chain[i:]...), chain[:i]...)
		}
	}
	return chain
}

func next(n BlockedOn) string {
	switch n {
	case BlockedOnSend, BlockedOnSendTimed:
		return "drained by"
	case BlockedOnEventQueue:
		return "emptied by"
	case BlockedOnRunc, BlockedOnPublish:
		return "whose exit is delivered by"
	case BlockedOnDrain:
		return "which lasts until the last holder of the pipe is gone"
	case BlockedOnFIFO, BlockedOnLogWrite:
		return "which nobody does"
	}
	return "held by"
}
