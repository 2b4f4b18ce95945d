// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/sanitize"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	os.Exit(shimtest.Run(m))
}

// capture runs shimctl and returns its exit status and output.
func capture(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	oldOut, oldErr := out, errs
	out, errs = sanitize.Writer{W: &o}, sanitize.Writer{W: &e}
	defer func() { out, errs = oldOut, oldErr }()
	status = run(t.Context(), args)
	return status, o.String(), e.String()
}

func TestHelpOfEveryVerb(t *testing.T) {
	for _, v := range verbs() {
		status, o, _ := capture(t, v.name, "-h")
		if status != exitOK || !strings.Contains(o, "exit status:") || !strings.Contains(o, "examples:") {
			t.Errorf("%s: status %d, help without exit statuses or examples:\n%s", v.name, status, o)
		}
		if status, _, e := capture(t, v.name, "-no-such-flag"); status != exitUsage || !strings.Contains(e, v.name+" -h") {
			t.Errorf("%s: status %d, %q", v.name, status, e)
		}
	}
	if status, _, _ := capture(t, "nonsense"); status != exitUsage {
		t.Errorf("got status %d", status)
	}
}

func TestChoose(t *testing.T) {
	all := []scan.Shim{{Namespace: "moby", ID: "abc1", PID: 7}, {Namespace: "moby", ID: "abc2", PID: 8}, {Namespace: "k8s.io", ID: "7", PID: 9},
		{Namespace: "moby", ID: "123456789012f", PID: 10}}
	tests := map[string]struct {
		pid  int
		fail string
	}{
		"8": {8, ""}, "abc1": {7, ""}, "moby/abc2": {8, ""}, "k8s": {9, ""},
		"abc": {0, "ambiguous"}, "zzz": {0, "no shim"}, "7": {0, "ambiguous"},
		// Another shim than the one that had the pid got the signal.
		"1": {0, "no shim has the pid 1"}, "123": {0, "no shim has the pid 123"}, "123456789012": {10, ""}, "0": {0, "no shim"}, "12": {0, "give more of the id"},
	}
	for arg, want := range tests {
		got, err := choose(all, []string{arg})
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

func TestAge(t *testing.T) {
	for want, d := range map[string]time.Duration{"40s": 40 * time.Second, "5m": 5 * time.Minute, "3h": 3 * time.Hour, "12d": 300 * time.Hour} {
		if got := age(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
