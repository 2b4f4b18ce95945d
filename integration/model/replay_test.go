// SPDX-License-Identifier: Apache-2.0

package model

import "testing"

// TestReplay: what breaks a rule is no run of the model's.
func TestReplay(t *testing.T) {
	t.Parallel()
	cases := []struct {
		what string
		run  []Event
		want bool
	}{
		{"an exec, then the container", []Event{{Started, 1}, {Recorded, 1}, {Told, 1}, {Put, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, true},
		{"an exec that was refused", []Event{{Recorded, 0}, {Put, 0}, {Taken, 0}}, true},
		{"a daemon that comes back", []Event{{Started, 1}, {Away, 0}, {Recorded, 1}, {Told, 1}, {Put, 1}, {Back, 0}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, true},
		{"the container's exit first", []Event{{Started, 1}, {Recorded, 1}, {Recorded, 0}, {Put, 0}, {Put, 1}, {Taken, 0}, {Taken, 1}}, false},
		{"an exit that is taken twice", []Event{{Started, 1}, {Recorded, 1}, {Put, 1}, {Taken, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
		{"an exit that is put twice", []Event{{Started, 1}, {Recorded, 1}, {Put, 1}, {Put, 1}, {Taken, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
		{"an exit that is lost", []Event{{Started, 1}, {Recorded, 1}, {Put, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
		{"an exit before its start", []Event{{Recorded, 1}, {Put, 1}, {Started, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
		{"an exit that is told before it is known", []Event{{Told, 1}, {Started, 1}, {Recorded, 1}, {Put, 1}, {Taken, 1}, {Recorded, 0}, {Put, 0}, {Taken, 0}}, false},
	}
	var runs [][]Event
	for _, c := range cases {
		runs = append(runs, c.run)
	}
	accepted, err := Replay(t.Context(), t.TempDir(), 1, runs)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if accepted[i] != c.want {
			t.Errorf("%s: %v, want %v", c.what, accepted[i], c.want)
		}
	}
}
