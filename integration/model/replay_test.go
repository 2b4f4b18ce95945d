// SPDX-License-Identifier: Apache-2.0

package model

import "testing"

// replayed is a run, and whether there is one like it in the model.
type replayed struct {
	what string
	run  []Event
	want bool
}

// TestReplay: what breaks a rule is no run of the model's.
func TestReplay(t *testing.T) {
	judge(t, Shim(1), []replayed{
		{"an exec, then the container", []Event{{Started, 1}, {Recorded, 1}, {Told, 1}, {Put, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, true},
		{"an exec that was refused", []Event{{Recorded, 0}, {Put, 0}, {Taken, 0}}, true},
		{"a daemon that comes back", []Event{{Started, 1}, {Away, 0}, {Recorded, 1}, {Told, 1}, {Put, 1}, {Back, 0}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, true},
		{"the container's exit first", []Event{{Started, 1}, {Recorded, 1}, {Recorded, 0}, {Put, 0}, {Put, 1}, {Taken, 0}, {Taken, 1}}, false},
		{"an exit that is taken twice", []Event{{Started, 1}, {Recorded, 1}, {Put, 1}, {Taken, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
		{"an exit that is put twice", []Event{{Started, 1}, {Recorded, 1}, {Put, 1}, {Put, 1}, {Taken, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
		{"an exit that is lost", []Event{{Started, 1}, {Recorded, 1}, {Put, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
		{"an exit before its start", []Event{{Recorded, 1}, {Put, 1}, {Started, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
		{"an exit that is told before it is known", []Event{{Told, 1}, {Started, 1}, {Recorded, 1}, {Put, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
	})
}

// TestReplayDeletes: the same, if what has ended is deleted.
func TestReplayDeletes(t *testing.T) {
	judge(t, Shim(1).Deletes(), []replayed{
		{"an exec and the container", []Event{{Started, 1}, {Recorded, 1}, {Put, 1}, {Taken, 1}, {Deleted, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}, {Deleted, 0}}, true},
		{"an exec whose exit the daemon takes afterwards", []Event{{Started, 1}, {Recorded, 1}, {Deleted, 1}, {Put, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, true},
		{"the container, while the daemon is away", []Event{{Started, 1}, {Recorded, 1}, {Put, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Away, 0}, {Deleted, 0}, {Back, 0}, {Taken, 0}}, true},
		{"an exec that lives", []Event{{Started, 1}, {Deleted, 1}, {Recorded, 1}, {Put, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
		{"an exit that a deletion loses", []Event{{Started, 1}, {Recorded, 1}, {Deleted, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
		{"the container, before its exit is on its way", []Event{{Started, 1}, {Recorded, 1}, {Put, 1}, {Taken, 1}, {Recorded, 0}, {Deleted, 0}, {Put, 0}, {Taken, 0}}, false},
		{"the container, before the daemon has its exit", []Event{{Started, 1}, {Recorded, 1}, {Put, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Deleted, 0}, {Taken, 0}}, false},
	})
}

// TestReplayExchange: the same, if the program is exchanged.
func TestReplayExchange(t *testing.T) {
	judge(t, Shim(1).Deletes().Exchange(), []replayed{
		{"before all", []Event{{Exchanged, 0}, {Started, 1}, {Told, 1}, {Taken, 1}, {Deleted, 1}, {Told, 0}, {Taken, 0}, {Deleted, 0}}, true},
		{"between an exit and its event", []Event{{Started, 1}, {Told, 1}, {Exchanged, 0}, {Taken, 1}, {Told, 0}, {Taken, 0}}, true},
		{"while the daemon is away", []Event{{Started, 1}, {Away, 0}, {Told, 1}, {Told, 0}, {Exchanged, 0}, {Back, 0}, {Taken, 1}, {Taken, 0}}, true},
		{"an exit that is lost", []Event{{Started, 1}, {Told, 1}, {Exchanged, 0}, {Told, 0}, {Taken, 0}}, false},
		{"an exit that is taken by either program's hand", []Event{{Started, 1}, {Taken, 1}, {Exchanged, 0}, {Taken, 1}, {Taken, 0}}, false},
		{"the container's exit first", []Event{{Started, 1}, {Told, 1}, {Told, 0}, {Exchanged, 0}, {Taken, 0}, {Taken, 1}}, false},
		{"two of them", []Event{{Exchanged, 0}, {Exchanged, 0}, {Started, 1}, {Taken, 1}, {Taken, 0}}, false},
	})
}

// TestReplayPids: no claim finds another's process.
func TestReplayPids(t *testing.T) {
	judge(t, Pids(), []replayed{
		{"one after the other", []Event{{Begun, 0}, {Forked, 0}, {Living, 0}, {Reaped, 0}, {Begun, 1}, {Forked, 1}, {Reaped, 1}, {Dead, 1}}, true},
		{"the pid is another's before the claim", []Event{{Begun, 0}, {Begun, 1}, {Forked, 0}, {Reaped, 0}, {Forked, 1}, {Dead, 0}, {Living, 1}, {Reaped, 1}}, true},
		{"and that is claimed first", []Event{{Begun, 0}, {Begun, 1}, {Forked, 0}, {Reaped, 0}, {Forked, 1}, {Living, 1}, {Dead, 0}, {Reaped, 1}}, true},
		{"all three are dead", []Event{{Begun, 0}, {Begun, 1}, {Forked, 2}, {Reaped, 2}, {Forked, 1}, {Reaped, 1}, {Forked, 0}, {Reaped, 0}, {Dead, 0}, {Dead, 1}}, true},
		{"a claim of what is dead finds another alive", []Event{{Begun, 0}, {Begun, 1}, {Forked, 0}, {Reaped, 0}, {Forked, 1}, {Living, 0}, {Reaped, 1}}, false},
		{"a claim of what lives finds another's exit", []Event{{Begun, 0}, {Begun, 1}, {Forked, 0}, {Reaped, 0}, {Forked, 1}, {Dead, 1}, {Dead, 0}, {Reaped, 1}}, false},
		{"the pid is given while it is another's", []Event{{Begun, 0}, {Begun, 1}, {Forked, 0}, {Forked, 1}, {Reaped, 0}, {Dead, 0}, {Living, 1}, {Reaped, 1}}, false},
	})
}

// judge replays runs.
func judge(t *testing.T, m Model, cases []replayed) {
	t.Helper()
	t.Parallel()
	var runs [][]Event
	for _, c := range cases {
		runs = append(runs, c.run)
	}
	accepted, err := Replay(t.Context(), t.TempDir(), m, runs)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if accepted[i] != c.want {
			t.Errorf("%s: %v, want %v", c.what, accepted[i], c.want)
		}
	}
}
