// SPDX-License-Identifier: Apache-2.0

// Package catalogue has a black-box check for each known bug of the shim that can be seen
// from outside. It is written in the calls of the v1 shim; v2 shims are asked the same in
// their own, except for what only one kind has. A check says what it asserts. Which of upstream's releases
// are expected to fail it is in expected.txt, so that a run on those releases proves
// that the check can see the bug.
package catalogue

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"containerd-shim.v1/integration/harness"
)

// Check is the check for one known bug.
type Check struct {
	ID       string // a letter and a number, and another letter if the bug has several forms
	Name     string
	Incident string        // what users saw
	Asserts  string        // what a shim without the bug does
	Limit    time.Duration // how long it may take; All sets it if it is 0
	Load     Load
	Run      func(*harness.Case)
	V1Only   string // why it is not for v2 shims; All sets it
	V2Only   bool   // it is about what only v2 shims have
}

// Asks reports whether the check is for v2 shims, or for v1 shims.
func (c Check) Asks(v2 bool) bool {
	if v2 {
		return c.V1Only == ""
	}
	return !c.V2Only
}

func onlyV2(checks []Check) []Check {
	for i := range checks {
		checks[i].V2Only = true
	}
	return checks
}

// with returns the Run of a check that shares its function with others, which use it
// with other values.
func with[T any](check func(*harness.Case, T), value T) func(*harness.Case) {
	return func(c *harness.Case) { check(c, value) }
}

// Load says what a check does to others that run at the same time.
type Load int

// The loads. Most checks spend their time waiting, for runc or for something that must
// not happen.
const (
	Light Load = iota
	Heavy      // takes all CPUs for some seconds, and would make many others late
	Alone      // changes something of the host or of this process, such as the next pid or the umask
)

// defaultLimit bounds a check that does not say otherwise.
const defaultLimit = 60 * time.Second

// All returns the checks, sorted by id.
func All() []Check {
	all := slices.Concat(abandonedChecks, compatChecks, crashChecks, drainChecks, errorClassChecks, floodChecks, initDeathChecks,
		leakChecks, lifetimeChecks, loggerChecks, mountChecks, orderChecks, outboxChecks, pidChecks, pipeChecks, raceChecks,
		rpcChecks(), runcErrorChecks, scarceChecks, signalChecks, slowRuncChecks, startupChecks, stdinChecks, stormChecks,
		streamChecks, ttyChecks, onlyV2(groupChecks), onlyV2(taskChecks), onlyV2(sandboxChecks))
	for i := range all {
		all[i].Limit = cmp.Or(all[i].Limit, defaultLimit)
		all[i].V1Only = v1Only[all[i].ID]
	}
	slices.SortFunc(all, func(a, b Check) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Matching returns the checks whose id or name contains one of the patterns, which
// are separated by commas, in upper or lower case. An empty pattern means all.
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
