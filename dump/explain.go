// SPDX-License-Identifier: Apache-2.0

package dump

import "time"

// Grade is how sure a finding is, and how bad.
type Grade string

// The grades, worst first.
const (
	// Deadlock is a closed ring: it never resolves by itself.
	Deadlock Grade = "deadlock"
	// Stall ends when its cause does, or after a second for each exit.
	Stall Grade = "stall"
	// Note is worth knowing; nobody else waits for it.
	Note Grade = "note"
)

// Finding is one known bug seen in a dump.
type Finding struct {
	Bug    string // number in the catalogue, such as "B01"
	Reason string // CamelCase, for tables and metrics, such as "ReaperDeadlock"
	Grade  Grade
	Title  string
	Ring   []Link // who waits for whom; of a deadlock, the last waits for the first
	// Since is how long the last of them has waited: the ring is as old as that.
	Since  time.Duration
	Behind map[string]int // who else waits behind it, counted by name
	Advice string
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
	Findings   []Finding // worst first
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
// goroutine comes again (a deadlock) or something outside of the shim is
// reached: a runc, a FIFO without reader, a process that holds a pipe. All
// goroutines that end at the same place are one finding.
func Explain(d *Dump) *Report {
	g := newGraph(d)
	r := &Report{Goroutines: len(d.Goroutines), Complete: d.Complete, Why: d.Why, Requests: map[string]int{}}
	found := map[uint64]*Finding{} // by the goroutine that stands for the ring or its end
	var order []uint64
	for _, a := range g.actors {
		if a.Serves {
			r.Requests[a.RPC]++
		}
		if a.Need == NeedNothing {
			continue
		}
		path, ring := g.follow(a)
		chain := path
		if ring >= 0 {
			chain = path[ring:]
		} else {
			chain = path[max(0, len(path)-3):]
		}
		key := rootOf(chain, ring >= 0)
		if f, ok := found[key]; ok {
			if !f.has(a.ID) {
				f.Behind[a.name()]++
			}
			if ring < 0 && len(chain) > len(f.Ring) { // show the longest way to an outside cause
				f.restart(chain)
			}
			continue
		}
		f := &Finding{Behind: map[string]int{}}
		f.set(chain)
		f.name(chain, ring >= 0)
		if !f.has(a.ID) {
			f.Behind[a.name()]++
		}
		found[key] = f
		order = append(order, key)
	}
	for _, grade := range []Grade{Deadlock, Stall, Note} {
		for _, key := range order {
			f := found[key]
			f.regrade()
			if f.Grade == grade {
				r.Findings = append(r.Findings, *f)
			}
		}
	}
	return r
}

// rootOf is the smallest goroutine id of a ring, or the last of a chain.
func rootOf(chain []*Actor, ring bool) uint64 {
	if !ring {
		return chain[len(chain)-1].ID
	}
	id := chain[0].ID
	for _, a := range chain {
		id = min(id, a.ID)
	}
	return id
}

func (f *Finding) has(id uint64) bool {
	for _, l := range f.Ring {
		if l.Goroutine == id {
			return true
		}
	}
	return false
}

// restart replaces the chain by a longer one to the same end.
func (f *Finding) restart(chain []*Actor) {
	old := f.Ring
	f.set(chain)
	f.name(chain, false)
	for _, l := range old {
		if !f.has(l.Goroutine) {
			f.Behind[l.Name]++
		}
	}
	for _, l := range f.Ring {
		if f.Behind[l.Name]--; f.Behind[l.Name] <= 0 {
			delete(f.Behind, l.Name)
		}
	}
}

func (f *Finding) set(chain []*Actor) {
	chain = reaperFirst(chain)
	f.Ring = f.Ring[:0]
	f.Since = chain[0].Since
	for _, a := range chain {
		waits := string(a.Need)
		if a.Verb != "" {
			waits = a.Verb + " to exit"
		}
		f.Ring = append(f.Ring, Link{Goroutine: a.ID, Name: a.name(), State: a.State, Since: a.Since, Waits: waits, Next: next(a.Need)})
		f.Since = min(f.Since, a.Since)
	}
}

// reaperFirst turns a chain so that the reaper, if it is in it, comes first.
func reaperFirst(chain []*Actor) []*Actor {
	for i, a := range chain {
		if a.Role == RoleReaper || a.Role == RoleNotifier {
			return append(append([]*Actor{}, chain[i:]...), chain[:i]...)
		}
	}
	return chain
}

func next(n Need) string {
	switch n {
	case NeedSend, NeedSendTimed:
		return "drained by"
	case NeedEventQueue:
		return "emptied by"
	case NeedRunc, NeedPublish:
		return "whose exit is delivered by"
	case NeedDrain:
		return "which lasts until the last holder of the pipe is gone"
	case NeedFIFO, NeedLogWrite:
		return "which nobody does"
	}
	return "held by"
}
