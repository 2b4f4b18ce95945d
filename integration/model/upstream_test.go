// SPDX-License-Identifier: Apache-2.0

package model

import (
	"slices"
	"strings"
	"testing"
)

// What the processes of upstream's model stand at; texts of its comments.
const (
	sends     = "the reaper sends, and holds its lock"
	lockWait  = "the exit loop waits for the service's lock"
	pidWait   = "the exit loop waits for the pid of the exec that starts"
	runcWait  = "the call waits for its runc"
	stateWait = "State waits for the service's lock"
	atRest    = "end:"
)

// TestUpstream: each of upstream's reapers is found out by what it is known for, and
// by nothing where it is known to work.
func TestUpstream(t *testing.T) {
	for _, c := range []struct {
		what     string
		switches []string
		fault    string
		where    map[string]string
	}{
		{"B01, the ring of the incident", []string{"RELEASE=112", "BUFFER=1", "INCIDENT"}, "invalid end state",
			map[string]string{"reap": sends, "exits": lockWait, "start": runcWait, "state": stateWait}},
		{"the same release, if the channel is not full", []string{"RELEASE=112", "BUFFER=4"}, "", nil},

		{"2048 are a longer way to the same ring", []string{"RELEASE=126", "BUFFER=1", "INCIDENT"}, "invalid end state",
			map[string]string{"reap": sends, "exits": pidWait, "start": runcWait}},
		{"the same release, if the channel is not full and no runc hangs", []string{"RELEASE=126", "BUFFER=4"}, "", nil},
		{"B07, the delay: no exit is told while one runc hangs", []string{"RELEASE=126", "BUFFER=4", "HANGS", "INCIDENT"}, "invalid end state",
			map[string]string{"reap": atRest, "exits": pidWait, "start": runcWait, "forward": atRest}},

		{"one second, then on: there is no ring", []string{"RELEASE=1735", "BUFFER=1"}, "", nil},
		{"B02, the delay: a second passes though nothing hangs", []string{"RELEASE=1735", "BUFFER=1", "TIMELY"}, "assertion violated hung",
			map[string]string{"exits": pidWait}},
		{"B07, the delay: no State while one runc hangs", []string{"RELEASE=1735", "BUFFER=1", "HANGS", "INCIDENT"}, "invalid end state",
			map[string]string{"exits": pidWait, "state": stateWait}},
		{"B02, exits overtake each other", []string{"RELEASE=1735", "BUFFER=1", "OTHERS=4", "ORDERED"}, "assertion violated (e==count)", nil},
		{"B04, the loss: one attempt to publish", []string{"RELEASE=1735", "BUFFER=1", "FAILS"}, "invalid end state",
			map[string]string{"reap": atRest, "exits": atRest, "forward": atRest, "judge": "published[0]"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			s := faults
			if slices.Contains(c.switches, "INCIDENT") {
				s = shortest // without detours, so that everybody stands where the incident had them
			}
			v := verify(t, s, "upstream.pml", c.switches...)
			if v.fault != c.fault {
				t.Errorf("%q, want %q; the processes stand at %q", v.fault, c.fault, v.where)
			}
			for name, line := range c.where {
				if got := strings.Join(v.where[name], "\n"); !strings.Contains(got, line) {
					t.Errorf("%s stands at %q, want %q", name, got, line)
				}
			}
			if c.fault == "" {
				t.Logf("%d states, 0 errors", v.states)
			}
		})
	}
}
