// SPDX-License-Identifier: Apache-2.0

// Package catalogue holds one black-box check for each known bug of the v1
// shim that shows from outside. A check says what it asserts and which
// upstream releases are expected to fail it, so that a run on those releases
// proves that the check can see the bug.
package catalogue

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"containerd-shim.v1/integration/harness"
)

// Check is one known bug.
type Check struct {
	ID       string // a letter and a number, and another letter where a bug has several faces
	Name     string
	Incident string // what users saw
	Asserts  string // what a shim without the bug does
	Limit    time.Duration
	Load     Load
	Run      func(*harness.Case)
}

// with is a check that does the same as others with another value.
func with[T any](check func(*harness.Case, T), value T) func(*harness.Case) {
	return func(c *harness.Case) { check(c, value) }
}

// Load says what a check does to others that run at the same time.
type Load int

// The loads. Most checks wait, for runc and for what does not come.
const (
	Light Load = iota
	Heavy      // takes all CPUs for some seconds, and would make many others late
	Alone      // changes something of the host or of this process: the next pid, the umask
)

// defaultLimit bounds a check that does not say otherwise.
const defaultLimit = 60 * time.Second

// All lists the checks in the order of their numbers.
func All() []Check {
	all := slices.Concat(abandonedChecks, compatChecks, crashChecks, drainChecks, errorClassChecks, floodChecks, initDeathChecks,
		leakChecks, lifetimeChecks, loggerChecks, mountChecks, orderChecks, outboxChecks, pidChecks, pipeChecks, raceChecks,
		rpcChecks(), runcErrorChecks, scarceChecks, signalChecks, slowRuncChecks, startupChecks, stdinChecks, stormChecks,
		streamChecks, ttyChecks)
	for i := range all {
		all[i].Limit = cmp.Or(all[i].Limit, defaultLimit)
	}
	slices.SortFunc(all, func(a, b Check) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Matching lists the checks whose id or name contains one of the patterns,
// which are separated by commas; an empty pattern means all.
func Matching(pattern string) []Check {
	if pattern == "" {
		return All()
	}
	var out []Check
	for _, c := range All() {
		for p := range strings.SplitSeq(pattern, ",") {
			if p != "" && strings.Contains(strings.ToLower(c.ID+" "+c.Name), strings.ToLower(p)) {
				out = append(out, c)
				break
			}
		}
	}
	return out
}

func (c Check) String() string { return fmt.Sprintf("%s %s", c.ID, c.Name) }
