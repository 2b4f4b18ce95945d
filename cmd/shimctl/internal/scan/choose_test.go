// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	all := []Shim{{Namespace: "moby", ID: "abc1", PID: 7}, {Namespace: "moby", ID: "abc2", PID: 8}, {Namespace: "k8s.io", ID: "7", PID: 9},
		{Namespace: "moby", ID: "123456789012f", PID: 10},
		// Anybody can start these.
		{Namespace: "moby", ID: "abc1", PID: 20, Foreign: true}, {Namespace: "x", ID: "8", PID: 21, Foreign: true}, {Namespace: "x", ID: "ab", PID: 22, Foreign: true},
		{Namespace: "moby", ID: "123456789012f0", PID: 23, Foreign: true}, {Namespace: "x", ID: "def", PID: 24, Foreign: true}}
	tests := map[string]struct {
		pid  int
		fail string
	}{
		"8": {8, ""}, "abc1": {7, ""}, "moby/abc2": {8, ""}, "k8s": {9, ""},
		"abc": {0, "ambiguous"}, "zzz": {0, "no shim"}, "7": {7, ""}, "k8s.io/7": {9, ""}, "20": {20, ""}, "def": {24, ""}, "x/ab": {22, ""}, "ab": {0, "ambiguous"},
		// Another shim than the one that had the pid got the signal.
		"1": {0, "no shim has the pid 1"}, "123": {0, "no shim has the pid 123"}, "123456789012": {10, ""}, "0": {0, "no shim"}, "12": {0, "give more of the id"},
	}
	for arg, want := range tests {
		got, err := Choose(all, []string{arg})
		if want.fail != "" {
			if err == nil || !strings.Contains(err.Error(), want.fail) {
				t.Errorf("%s: got %v, want an error with %q", arg, err, want.fail)
			}
			continue
		}
		if err != nil || len(got) != 1 || got[0].PID != want.pid {
			t.Errorf("%s: got %+v, %v", arg, got, err)
		}
	}
}
