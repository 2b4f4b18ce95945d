// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// stateLimit is how long an answer to State may take during a flood. The machine's own
// delay at the same time is added: when 400 clients and runcs want two processors at
// once, everybody waits.
const stateLimit = time.Second

// execPace is the time per exec, by runc alone, on the machines for which stateLimit is
// meant. On a machine that is slower by some factor, State may take longer by the same
// factor.
const execPace = 24 * time.Millisecond

// slowness returns how many times slower than those this machine is; at least 1.
func (r *Report) slowness() float64 { return max(1, float64(r.Pace)/float64(execPace)) }

// Report is the result of a flood or a storm.
type Report struct {
	N       int
	Pace    time.Duration // time per exec by runc alone, measured before
	Elapsed time.Duration
	Peak    int // the most execs that ran at the same time

	OK     int      // execs that ended with the right exit code
	Errors []string // one for each of the others, in the order in which they ended

	Lost, Doubled, Wrong int // exits with no event, with more than one, with a wrong status

	States         int // State calls to the shim's own socket
	SlowestState   time.Duration
	Lists          int // Tasks.List calls to containerd, as `ctr tasks ls` makes them
	SlowestList    time.Duration
	Controls       int           // bytes sent to cat and back, at the same time
	SlowestControl time.Duration // the machine's own delay
	Unanswered     []string      // probes that failed, or whose answer was not "running"

	Broken []string // what kept the result from being judged in full

	Before, After Counts // of the shim: before the first exec, and when it has settled
}

// Problems returns what is wrong with the result; nothing if all is well.
func (r *Report) Problems() []string {
	var p []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			p = append(p, fmt.Sprintf(format, args...))
		}
	}
	add(r.OK != r.N, "%d of %d execs failed: %s", r.N-r.OK, r.N, strings.Join(r.Errors[:min(3, len(r.Errors))], " | "))
	add(r.Lost > 0, "%d exits were never published", r.Lost)
	add(r.Doubled > 0, "%d exits were published more than once", r.Doubled)
	add(r.Wrong > 0, "%d exits were published with a wrong status", r.Wrong)
	limit := time.Duration(r.slowness()*float64(stateLimit)) + r.SlowestControl
	add(r.SlowestState > limit, "State took up to %v, limit %v", r.SlowestState.Round(time.Millisecond), limit.Round(time.Millisecond))
	// A list is a State call behind one more process.
	limit += r.SlowestControl
	add(r.SlowestList > limit, "Tasks.List took up to %v, limit %v", r.SlowestList.Round(time.Millisecond), limit.Round(time.Millisecond))
	add(r.States == 0 || r.Lists == 0 || r.Controls == 0, "a probe was never made: %d State, %d List, %d cat", r.States, r.Lists, r.Controls)
	add(len(r.Unanswered) > 0, "%d probes failed: %s", len(r.Unanswered), strings.Join(r.Unanswered[:min(3, len(r.Unanswered))], " | "))
	add(len(r.Broken) > 0, "%s", strings.Join(r.Broken, " | "))
	add(r.After.Zombies > 0, "%d zombies are left below the shim", r.After.Zombies)
	add(r.After.Children != r.Before.Children, "the shim has %d children, had %d", r.After.Children, r.Before.Children)
	add(r.After.Fds > r.Before.Fds, "the shim has %d fds, had %d", r.After.Fds, r.Before.Fds)
	return p
}

// String returns the figures in one line.
func (r *Report) String() string {
	return fmt.Sprintf("%d execs in %v (runc alone: %v each), %d in flight at most: %d ok, %d failed; exits lost %d, doubled %d, wrong %d; "+
		"State %d times, slowest %v; Tasks.List %d times, slowest %v; a cat %d times, slowest %v; fds %d to %d, threads %d to %d, zombies %d",
		r.N, r.Elapsed.Round(10*time.Millisecond), r.Pace.Round(time.Millisecond), r.Peak, r.OK, r.N-r.OK, r.Lost, r.Doubled, r.Wrong,
		r.States, r.SlowestState.Round(time.Millisecond), r.Lists, r.SlowestList.Round(time.Millisecond),
		r.Controls, r.SlowestControl.Round(time.Millisecond),
		r.Before.Fds, r.After.Fds, r.Before.Threads, r.After.Threads, r.After.Zombies)
}

// judgeExits fills in Lost, Doubled and Wrong. want has the exit status of each exec
// that has run; one that was never started has no exit to publish.
func (r *Report) judgeExits(exits []Event, want map[string]uint32) {
	seen := map[string]int{}
	for _, e := range exits {
		seen[e.ID]++
		if status, ok := want[e.ID]; ok && status != e.ExitStatus {
			r.Wrong++
		}
	}
	for id := range want {
		switch n := seen[id]; {
		case n == 0:
			r.Lost++
		case n > 1:
			r.Doubled++
		}
	}
}

// tally counts the execs that run and those that have ended. It keeps the report's
// Peak, OK and Errors.
type tally struct {
	mu     sync.Mutex
	report *Report
	now    int
	want   map[string]uint32
}

func newTally(r *Report) *tally { return &tally{report: r, want: map[string]uint32{}} }

func (t *tally) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now++
	t.report.Peak = max(t.report.Peak, t.now)
}

// end notes how one exec ended; err is nil if it had the right exit code.
func (t *tally) end(id string, status uint32, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now--
	if err != nil {
		t.report.Errors = append(t.report.Errors, fmt.Sprintf("%s: %v", id, err))
		return
	}
	t.report.OK++
	t.want[id] = status
}

func (t *tally) ended() (done, failed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.report.OK + len(t.report.Errors), len(t.report.Errors)
}
