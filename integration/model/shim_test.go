// SPDX-License-Identifier: Apache-2.0

package model

import (
	"strings"
	"testing"
)

// configurations of shim.pml that are searched. Each is a few million states, and one
// more switch or exec makes ten times as many.
var configurations = map[string][]string{
	"two execs, a runc or a client may hang":              {"EXECS=2", "HANGS"},
	"one exec, anything may hang, and the daemon may die": {"EXECS=1", "HANGS", "FAILS"},
	"two execs are deleted":                               {"EXECS=2", "DELETES"},
	"the same with one, and anything may fail":            {"EXECS=1", "DELETES", "HANGS", "FAILS"},
	"two execs across an exchange":                        {"EXECS=2", "EXCHANGE"},
	"one that is deleted, and anything may hang":          {"EXECS=1", "EXCHANGE", "DELETES", "HANGS"},
	"one across an exchange, and the daemon may die":      {"EXECS=1", "EXCHANGE", "FAILS"},
}

// TestShim: in every run of this shim's model nothing blocks for ever, and what the
// judge waits for comes.
func TestShim(t *testing.T) {
	for name, switches := range configurations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := verify(t, thorough(faults), "shim.pml", switches...)
			if v.fault != "" {
				t.Errorf("%s; the processes stand at %q", v.fault, v.where)
			}
			if v.states < 10000 {
				t.Errorf("only %d states: the model does not move", v.states)
			}
			t.Logf("%d states, 0 errors", v.states)
		})
	}
}

// TestShimEnds: no run goes on for ever, without which "an end where somebody waits"
// would not be all that can go wrong.
func TestShimEnds(t *testing.T) {
	for name, switches := range configurations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := verify(t, thorough(cycles), "shim.pml", switches...)
			if v.fault != "" {
				t.Errorf("%s; the processes stand at %q", v.fault, v.where)
			}
			t.Logf("%d states, 0 errors", v.states)
		})
	}
}

// TestPids: each start comes to its own process, and no signal to another's.
func TestPids(t *testing.T) {
	for _, starts := range []string{"STARTS=2", "STARTS=3"} {
		t.Run(starts, func(t *testing.T) {
			t.Parallel()
			v := verify(t, faults, "pids.pml", starts)
			if v.fault != "" {
				t.Errorf("%s; the processes stand at %q", v.fault, v.where)
			}
			t.Logf("%d states, 0 errors", v.states)
		})
	}
}

// TestEveryRepairIsNeeded: without any one of them spin finds an error.
func TestEveryRepairIsNeeded(t *testing.T) {
	const (
		blocked = "invalid end state"
		answer  = "assertion violated (unanswered==0)"
		lost    = "assertion violated (child["
	)
	all := []string{"EXECS=1", "HANGS", "FAILS"}
	calm := []string{"EXECS=1"}
	deleted := []string{"EXECS=1", "DELETES"}
	exchanged := []string{"EXECS=1", "EXCHANGE"}
	pids := []string{"STARTS=2"}
	for _, c := range []struct {
		what     string
		switches []string
		fault    string
	}{
		{"exits that nobody has claimed yet are not kept", append(all, "NO_LEDGER"), "assertion violated (child[e]!=0)"},
		{"an exit does not wait for its start", append(all, "NO_HOLD"), "assertion violated (((published[e]||"},
		{"the container's own exit does not wait for its start", append(all, "NO_OWN_HOLD"), "assertion violated (((published[e]||"},
		{"the container's exit does not wait for its execs'", append(all, "INIT_FIRST"), "assertion violated (((e==0)|| !(taken[0]))"},
		{"an event that the daemon has not taken is dropped", append(all, "DROP"), blocked},
		{"a lock is held while runc runs", append(all, "LOCKED"), answer},
		{"who takes exits also kills what is left, and waits for runc", append(all, "INLINE_KILL"), blocked},
		{"the outbox is bounded", append(all, "BOUNDED_OUTBOX"), blocked},
		{"the reaper holds its lock while it waits for who waits for runc", append(calm, "BOUNDED", "INLINE_KILL"), "assertion violated (hung||silent)"},
		{"the same with a queue that grows, if no runc hangs", append(calm, "INLINE_KILL"), ""},
		{"a bounded queue, if who takes exits waits for nobody", append(all, "BOUNDED"), ""},

		{"the exit of what is deleted waits for its start all the same", append(deleted, "NO_SETTLE"), "assertion violated (hung||silent)"},
		{"the exit of what is deleted goes with it", append(deleted, "HELD_GOES"), "assertion violated (((late||"},
		{"a container is deleted before its exit is on its way", append(deleted, "NO_OVER"), "assertion violated (taken[0]"},
		{"a container is deleted before the daemon has its exit", append(deleted, "NO_FLUSH"), "assertion violated (taken[0]"},

		{"exits are reaped up to the exchange", append(exchanged, "REAPS_ON"), lost},
		{"exits that were delivered are not taken before an exchange", append(exchanged, "NO_DRAIN"), lost},
		{"the next program claims nothing", append(exchanged, "NO_CLAIM"), blocked},
		{"the next program does not know what was started", append(exchanged, "FORGETS_STARTS"), "assertion violated (((published[e]||"},
		{"the next program does not have the events", append(exchanged, "DROPS_OUTBOX"), blocked},
		{"an exchange does not wait for an event on its way", append(exchanged, "SENDS_ON"), "assertion violated ( !(got[e])"},
		{"an exchange does not wait for an answer on its way", append(exchanged, "WRITES_ON"), "assertion violated  !(answered)"},
		{"the next program does not have the open Waits", append(exchanged, "NO_WAITS"), blocked},
		{"events are stopped before the calls that wait for them", append(exchanged, "DELETES", "SENDS_FIRST"), "assertion violated ((((hung||silent)"},
		{"a Wait is handed over whose process was deleted", append(exchanged, "DELETES", "WAIT_LEFT"), "assertion violated  !((waits&&forgotten[whose]))"},

		{"of a pid the exits that nobody has claimed yet are not kept", append(pids, "NO_LEDGER"), "assertion violated"},
		{"of a pid's exits any fits", append(pids, "NO_TIME"), "assertion violated (found==s)"},
		{"of a pid's exits the latest fits best", append(pids, "NEWEST"), "assertion violated (found==s)"},
		{"a pid that has an owner is refused at once", append(pids, "OWNED_FIRST"), "assertion violated (claimer==255)"},
		{"a pid is free before its exit is handed over", append(pids, "EARLY_WAIT"), "assertion violated"},
		{"of a pid's exits also those before the ticket fit, but by their time none does", append(pids, "NO_ORDER"), ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			file := "shim.pml"
			if c.switches[0] == pids[0] {
				file = "pids.pml"
			}
			v := verify(t, faults, file, c.switches...)
			if (v.fault == "") != (c.fault == "") || !strings.HasPrefix(v.fault, c.fault) {
				t.Errorf("%q, want %q; the processes stand at %q", v.fault, c.fault, v.where)
			}
		})
	}
}
