// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/stackdump"
)

// Sample is one look at a shim.
type Sample struct {
	Time    time.Time
	Shim    scan.Shim
	Answers probe.Answers
	Disk    bool // a thread is in state D
	Frozen  bool
	// TaskGone is the answer of the shim's daemon, nil if it was not asked or did
	// not answer.
	TaskGone *bool
	// Report is the explanation of a complete dump, nil when none was taken.
	Report *stackdump.Report
}

// Result is the verdict on a shim, with its reason.
type Result struct {
	Verdict   Verdict
	Reason    string
	Detail    string
	Confirmed bool // proven by a dump, not only by time
	Since     time.Time
}

// Record is what is remembered of a shim between samples.
type Record struct {
	PID        int        `json:"pid"`
	StartTicks uint64     `json:"starttime_ticks"`
	Build      scan.Build `json:"build"`         // of its program, which may be exchanged in place
	Asked      time.Time  `json:"state_asked"`   // when State was asked last
	TimedOut   time.Time  `json:"state_timeout"` // the first of the timeouts in a row, zero for none
	Again      bool       `json:"state_again"`   // a second one came at least Apart later
	// Zombies has the first sighting of each child that is still unreaped.
	Zombies map[int]Zombie `json:"zombies,omitempty"`
	Ended   time.Time      `json:"ended"` // since when the container has ended, zero while it runs
	Gone    bool           `json:"gone"`  // the daemon has no such task
	Wedged  bool           `json:"wedged"`
	Reason  string         `json:"reason,omitempty"`
	Since   time.Time      `json:"since"`
	Proven  bool           `json:"confirmed"`
}

// Zombie is an unreaped child.
type Zombie struct {
	StartTicks uint64    `json:"starttime_ticks"`
	First      time.Time `json:"first_seen"`
}

// of reports whether the record is of this process, and of the program that it runs.
func (r *Record) of(s *scan.Shim) bool {
	return r.PID == s.PID && r.StartTicks == s.StartTicks && r.Build == s.Build
}

// newest is the last of the times in the record.
func (r *Record) newest() time.Time {
	times := []time.Time{r.Asked, r.TimedOut, r.Ended, r.Since}
	for _, z := range r.Zombies {
		times = append(times, z.First)
	}
	return slices.MaxFunc(times, time.Time.Compare)
}

// WantsState reports whether the shim should be asked for State in the next
// sample: seldom without a sign, twice with one, and hardly ever afterwards.
func (r *Record) WantsState(now time.Time, s *scan.Shim) bool {
	switch {
	case r.Wedged: // a stall that was taken for a wedge may have ended, and a wedge been healed
		return now.Sub(r.Asked) >= AskWedged
	case !r.TimedOut.IsZero():
		return !r.Again && now.Sub(r.Asked) >= Apart
	case len(s.Zombies) > 0, initGone(s) && r.Ended.IsZero():
		return true
	}
	return now.Sub(r.Asked) >= AskState
}

// Judge adds a sample of the shim to the record and returns the verdict.
func (r *Record) Judge(s Sample) Result {
	if !r.of(&s.Shim) {
		*r = Record{PID: s.Shim.PID, StartTicks: s.Shim.StartTicks, Build: s.Shim.Build}
	}
	res := r.look(s)
	if res.Verdict != Healthy && (r.Since.IsZero() || r.Reason != res.Reason && !r.Wedged) {
		r.Since = s.Time
	}
	switch {
	case r.Wedged && momentary[res.Reason]: // it will be over, and the shim as wedged as before
	case res.Verdict == Healthy:
		r.Since, r.Reason, r.Wedged, r.Proven = time.Time{}, "", false, false
	default:
		r.Reason, r.Wedged, r.Proven = res.Reason, res.Verdict == Wedged, res.Confirmed
	}
	res.Since = r.Since
	return res
}

// WedgeReasons are the reasons that a verdict of Wedged can have.
var WedgeReasons = []string{stackdump.ReaperDeadlock, stackdump.PublisherDeadlock, stackdump.OtherDeadlock, ZombiesRemain, StateTimeout}

// momentary are the reasons for which a wedged shim is not called so, as long as they last.
var momentary = map[string]bool{Stopped: true, Traced: true, Frozen: true, Blocked: true}

func (r *Record) look(s Sample) Result {
	oldest := r.zombies(s)
	r.state(s)
	r.ended(s)
	sign, detail := r.sign(s, oldest)
	suspect := func(reason, detail string) Result {
		return Result{Verdict: Suspect, Reason: reason, Detail: detail}
	}
	switch {
	case sign == "" && underway(&s.Shim):
		return Result{Verdict: Healthy}
	case sign == "" && r.Gone && s.Shim.Age-s.Time.Sub(r.Asked) >= Young: // when that was asked
		return suspect(Leaked, "its containerd has no such task")
	case sign == "" && !r.Ended.IsZero() && s.Time.Sub(r.Ended) >= Undelete:
		return suspect(Undeleted, fmt.Sprintf("its container ended %s ago and is not deleted", s.Time.Sub(r.Ended).Round(time.Second)))
	case sign == "":
		return Result{Verdict: Healthy}
	}
	// First everything that makes a healthy shim look like this.
	switch {
	case s.Shim.State == "T":
		return suspect(Stopped, "SIGCONT lets it go on")
	case s.Shim.Tracer != 0:
		return suspect(Traced, fmt.Sprintf("by process %d", s.Shim.Tracer))
	case s.Frozen:
		return suspect(Frozen, "its cgroup is frozen")
	case s.Shim.State == "D" || s.Disk:
		return suspect(Blocked, "a thread is in uninterruptible sleep: a kill would not act")
	case s.Report != nil && s.Report.Worst() == stackdump.Deadlock:
		f := s.Report.Findings[0]
		return Result{Verdict: Wedged, Reason: f.Reason, Confirmed: true, Detail: f.Title}
	case cause(s.Report) != nil:
		f := cause(s.Report)
		return suspect(f.Reason, f.Title)
	case r.Wedged && r.Proven:
		return Result{Verdict: Wedged, Reason: r.Reason, Confirmed: true, Detail: detail}
	case sign == Unresponsive || sign == Unreachable:
		return suspect(sign, detail)
	case s.Shim.Age < Young:
		return suspect(Starting, detail)
	case len(s.Shim.Runcs) > 0:
		return suspect(RuncBlocked, s.Shim.Runcs[0].String())
	case r.Again, !oldest.IsZero() && s.Time.Sub(oldest) >= Apart:
		return Result{Verdict: Wedged, Reason: sign, Detail: detail}
	}
	return suspect(sign, detail)
}

// cause returns what holds up a shim that does not answer: the worst finding, or
// the first ongoing wait that others wait behind; nil if there is neither.
func cause(r *stackdump.Report) *stackdump.Finding {
	if r == nil {
		return nil
	}
	if len(r.Findings) > 0 {
		return &r.Findings[0]
	}
	for i := range r.Ongoing {
		if f := &r.Ongoing[i]; len(f.Blocked) > 0 || len(f.Cycle) > 1 {
			return f
		}
	}
	return nil
}

// sign is the strongest sign of trouble in the record and the sample.
func (r *Record) sign(s Sample, oldest time.Time) (reason, detail string) {
	info := s.Answers.ShimInfo
	switch {
	case info.Asked && info.TimedOut:
		return Unresponsive, "ShimInfo is not answered"
	case info.Asked && !info.OK:
		return Unreachable, info.Err
	}
	var parts []string
	if !oldest.IsZero() {
		reason = ZombiesRemain
		parts = append(parts, fmt.Sprintf("%d unreaped children, the oldest seen for %s", len(r.Zombies), s.Time.Sub(oldest).Round(time.Second)))
	}
	if !r.TimedOut.IsZero() {
		reason = StateTimeout
		parts = append(parts, "ShimInfo answers and State does not")
	}
	if s.Shim.Init.WChan == "zap_pid_ns_processes" && reason != "" {
		parts = append(parts, "init waits for zombies that only the shim can reap")
	}
	if reason == "" && (s.Shim.State == "T" || s.Shim.Tracer != 0 || s.Frozen) {
		return Stopped, "" // nothing was asked; look names it
	}
	return reason, strings.Join(parts, "; ")
}

// zombies keeps the records of zombies that are still there and returns when the
// oldest was first seen. A healthy shim reaps a child within milliseconds, so one
// that is new in this sample is no sign.
func (r *Record) zombies(s Sample) (oldest time.Time) {
	now := map[int]Zombie{}
	for _, z := range s.Shim.Zombies {
		known, ok := r.Zombies[z.PID]
		if !ok || known.StartTicks != z.StartTicks {
			known = Zombie{StartTicks: z.StartTicks, First: s.Time}
		} else if oldest.IsZero() || known.First.Before(oldest) {
			oldest = known.First
		}
		now[z.PID] = known
	}
	r.Zombies = now
	return oldest
}

// Remains reports whether one of the children was unreaped in the last sample, too.
func (r *Record) Remains(zombies []scan.Process) bool {
	for _, z := range zombies {
		if known, ok := r.Zombies[z.PID]; ok && known.StartTicks == z.StartTicks {
			return true
		}
	}
	return false
}

// ended records when the container has ended, and whether the daemon still knows
// it. Shim and daemon are not asked each time, but a container whose process is
// there has not ended.
func (r *Record) ended(s Sample) {
	switch {
	case s.TaskGone == nil:
	case !*s.TaskGone:
		r.Gone = false
	case !underway(&s.Shim): // the daemon knows a task only when Create has returned
		r.Gone = true
	}
	switch a := s.Answers; {
	case a.State.OK && !a.Ended, s.Shim.Init.State != "" && s.Shim.Init.State != "Z":
		r.Ended = time.Time{}
	case a.Ended && !a.EndedAt.IsZero() && !a.EndedAt.After(s.Time): // the clock may have been set back since
		r.Ended = a.EndedAt
	case r.Ended.IsZero() && (a.Ended || initGone(&s.Shim)):
		r.Ended = s.Time
	}
}

// underway reports whether the container may be being made, or deleted in time.
func underway(s *scan.Shim) bool {
	return slices.ContainsFunc(s.Runcs, func(r scan.Runtime) bool {
		return r.Verb == "create" || r.Verb == "restore" || r.Age < Undelete
	})
}

// initGone reports whether the container's first process is known and not there.
func initGone(s *scan.Shim) bool { return s.Init.PID != 0 && s.Init.State == "" }

// state counts timeouts of State in a row.
func (r *Record) state(s Sample) {
	a := s.Answers.State
	if !a.Asked {
		return
	}
	switch {
	case a.OK:
		r.TimedOut, r.Again = time.Time{}, false
	case a.TimedOut && r.TimedOut.IsZero():
		r.TimedOut = s.Time
	case a.TimedOut && s.Time.Sub(r.TimedOut) >= Apart:
		r.Again = true
	}
	r.Asked = s.Time
}
