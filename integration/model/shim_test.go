// SPDX-License-Identifier: Apache-2.0

package model

import (
	"strings"
	"testing"
)

// TestShim: in every run of this shim's model nothing blocks for ever, and what the
// judge waits for comes.
func TestShim(t *testing.T) {
	for name, switches := range map[string][]string{
		"two execs, a runc or a client may hang":              {"EXECS=2", "HANGS"},
		"one exec, anything may hang, and the daemon may die": {"EXECS=1", "HANGS", "FAILS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := verify(t, faults, "shim.pml", switches...)
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
	t.Parallel()
	v := verify(t, cycles, "shim.pml", "EXECS=1", "HANGS", "FAILS")
	if v.fault != "" {
		t.Errorf("%s; the processes stand at %q", v.fault, v.where)
	}
	t.Logf("%d states, 0 errors", v.states)
}

// TestEveryRepairIsNeeded: without any one of them spin finds an error.
func TestEveryRepairIsNeeded(t *testing.T) {
	const (
		blocked = "invalid end state"
		answer  = "assertion violated (unanswered==0)"
	)
	all := []string{"EXECS=1", "HANGS", "FAILS"}
	calm := []string{"EXECS=1"}
	for _, c := range []struct {
		what     string
		switches []string
		fault    string
	}{
		{"exits that nobody has claimed yet are not kept", append(all, "NO_LEDGER"), "assertion violated (child[e]!=0)"},
		{"an exit does not wait for its start", append(all, "NO_HOLD"), "assertion violated (((((e==0)||published[e])"},
		{"the container's exit does not wait for its execs'", append(all, "INIT_FIRST"), "assertion violated (((e==0)|| !(taken[0]))"},
		{"an event that the daemon has not taken is dropped", append(all, "DROP"), blocked},
		{"a lock is held while runc runs", append(all, "LOCKED"), answer},
		{"who takes exits also kills what is left, and waits for runc", append(all, "INLINE_KILL"), blocked},
		{"the outbox is bounded", append(all, "BOUNDED_OUTBOX"), blocked},
		{"the reaper holds its lock while it waits for who waits for runc", append(calm, "BOUNDED", "INLINE_KILL"), "assertion violated (hung||silent)"},
		{"the same with a queue that grows, if no runc hangs", append(calm, "INLINE_KILL"), ""},
		{"a bounded queue, if who takes exits waits for nobody", append(all, "BOUNDED"), ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			v := verify(t, faults, "shim.pml", c.switches...)
			if (v.fault == "") != (c.fault == "") || !strings.HasPrefix(v.fault, c.fault) {
				t.Errorf("%q, want %q; the processes stand at %q", v.fault, c.fault, v.where)
			}
		})
	}
}
