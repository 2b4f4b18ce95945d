// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/faults"
)

// Outcome is the result of one life.
type Outcome struct {
	Fault faults.Fault
	Hits  []string // the calls that were made to fail; empty if the life has not come to the Nth
	harness.Result
}

// Mode says what happens at a call; the zero Mode is that it fails once.
type Mode struct {
	Twice bool // the call fails, and the next one of its kind
	Kill  bool // the shim is killed there; such lives are run with real runc
	// Moment has the call begin a moment in which the host has none left of what the
	// error says: memory, descriptors or room.
	Moment bool
}

// moment is how long it lasts: several pauses between tries, and no limit of a call.
const moment = 100 * time.Millisecond

// lacking are the errors of a moment.
var lacking = []unix.Errno{unix.ENOMEM, unix.EMFILE, unix.ENOSPC}

// Plan returns the failures for the calls of a life, given as their number by kind:
// each call with each error of its kind. Of a kind with more than most calls it takes
// most, spread evenly from the first to the last; 0 means all. With m.Twice the next
// call of the kind fails, too; with m.Kill the shim is killed at each call; with m.Moment
// each call begins a moment for each of the errors that its kind has of lacking.
func (m Mode) Plan(calls map[string]int, most int) []faults.Fault {
	var plan []faults.Fault
	for _, kind := range slices.Sorted(maps.Keys(calls)) {
		for _, n := range spread(calls[kind], most) {
			f := faults.Fault{Kind: kind, N: n, Kill: m.Kill}
			if m.Kill {
				plan = append(plan, f)
				continue
			}
			if m.Twice {
				f.Times = 2
			}
			for _, f.Errno = range faults.Kinds[kind] {
				if m.Moment {
					f.For = moment
				}
				if m.Moment && !slices.Contains(lacking, f.Errno) {
					continue
				}
				plan = append(plan, f)
			}
		}
	}
	return plan
}

// spread returns numbers from 1 to n, in ascending order and always including 1: all of
// them if most is 0 or less, otherwise at most most, with n if most is 2 or more.
func spread(n, most int) []int {
	if most <= 0 || n <= most {
		most = n
	}
	var out []int
	for k := range most {
		out = append(out, 1+k*(n-1)/max(1, most-1))
	}
	return out
}

// Usual is what a life without a failure is like.
type Usual struct {
	Calls map[string]int // that the shim makes, by kind
	// Leaks are parts of the names of descriptors that the shim of a deleted container
	// still has: other releases' bugs (B36, B37), which are not blamed on a failure.
	Leaks []string
}

// Count lives a life without a failure. It is an error if that does not pass.
func (m Mode) Count(cfg harness.Config) (Usual, error) {
	var usual Usual
	in := faults.New(cfg.Shim, faults.Fault{Kill: m.Kill})
	r := harness.Run(cfg, "count", Limit, func(c *harness.Case) { live(c, in, &usual) })
	if r.Verdict != harness.Pass {
		return usual, errors.New("a life without a failure: " + strings.Join(r.Messages, "; "))
	}
	usual.Calls = in.Calls()
	return usual, nil
}

// Run runs the lives of the plan, side of them at the same time, and calls report for
// each outcome, one at a time. It stops early if cfg is interrupted.
func (u Usual) Run(cfg harness.Config, plan []faults.Fault, side int, report func(Outcome)) {
	var mu sync.Mutex // held while report runs
	var lives sync.WaitGroup
	next := make(chan int)
	for range side {
		lives.Go(func() {
			for k := range next {
				in := faults.New(cfg.Shim, plan[k])
				r := harness.Run(cfg, fmt.Sprintf("i%d", k), Limit, func(c *harness.Case) { live(c, in, &u) })
				o := Outcome{Fault: plan[k], Hits: in.Hits(), Result: r}
				mu.Lock()
				report(o)
				mu.Unlock()
			}
		})
	}
	for k := range plan {
		if cfg.Interrupted() {
			break
		}
		next <- k
	}
	close(next)
	lives.Wait()
}

// Unreached lists the kinds of calls of which no life has come to the one that was to be hit:
// nothing was tried with these.
func Unreached(outcomes []Outcome) []string {
	reached := map[string]bool{}
	for _, o := range outcomes {
		reached[o.Fault.Kind] = reached[o.Fault.Kind] || len(o.Hits) > 0
	}
	maps.DeleteFunc(reached, func(_ string, yes bool) bool { return yes })
	return slices.Sorted(maps.Keys(reached))
}

// Row is a row of the table: the lives with one kind of call and one error.
type Row struct {
	Kind                   string
	Errno                  unix.Errno // 0 if the shim was killed
	Lives, Reached, Failed int        // Reached counts lives in which the call was made
	Messages               []string   // of the failed lives, each once
}

// Table sums up the outcomes, by kind and error.
func Table(outcomes []Outcome) []Row {
	type key struct {
		kind  string
		errno unix.Errno
	}
	rows := map[key]*Row{}
	for _, o := range outcomes {
		k := key{o.Fault.Kind, o.Fault.Errno}
		if rows[k] == nil {
			rows[k] = &Row{Kind: k.kind, Errno: k.errno}
		}
		r := rows[k]
		r.Lives++
		if len(o.Hits) > 0 {
			r.Reached++
		}
		if o.Verdict != harness.Pass {
			r.Failed++
			for _, m := range o.Messages {
				if !slices.Contains(r.Messages, m) {
					r.Messages = append(r.Messages, m)
				}
			}
		}
	}
	var out []Row
	for _, r := range rows {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Errno, b.Errno))
	})
	return out
}
