// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/sanitize"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	os.Exit(shimtest.Run(m))
}

// procRoot is where the real shims of these tests are.
const procRoot = "/proc"

// capture runs shimctl and returns its exit status and output.
func capture(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return underTest().capture(t, args...)
}

// underTest is shimctl on this host. Its streams are capture's.
func underTest() program {
	p := newProgram(nil, nil, nil)
	p.self = shimtest.Self()
	return p
}

func (p program) capture(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return p.with(t, func(p program) int { return p.run(t.Context(), args) })
}

// with does f with streams that are read.
func (p program) with(t *testing.T, f func(program) int) (status int, stdout, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	p.out, p.errs = sanitize.Writer{W: &o}, sanitize.Writer{W: &e}
	status = f(p)
	return status, o.String(), e.String()
}

func TestHelpOfEveryVerb(t *testing.T) {
	for _, v := range underTest().verbs() {
		status, o, _ := capture(t, v.name, "-h")
		if status != exitOK || !strings.Contains(o, "exit status:") || !strings.Contains(o, "examples:") {
			t.Errorf("%s: status %d, help without exit statuses or examples:\n%s", v.name, status, o)
		}
		if status, _, e := capture(t, v.name, "-no-such-flag"); status != exitUsage || !strings.Contains(e, v.name+" -h") {
			t.Errorf("%s: status %d, %q", v.name, status, e)
		}
	}
	// A value that is taken for another one acts otherwise than it was asked to.
	for _, args := range [][]string{
		{"check", "-state", "alwyas"}, {"export", "-state", ""}, {"repair", "-all", "-state", "Never"},
		{"stacks", "-method", "ptrce", "1"}, {"repair", "-all", "-on-reason", "ReaperDeadlock,ReaperDeadlok"},
	} {
		if status, o, e := capture(t, args...); status != exitUsage || o != "" || e == "" {
			t.Errorf("%q: status %d\n%s%s", args, status, o, e)
		}
	}
	if status, _, _ := capture(t, "nonsense"); status != exitUsage {
		t.Errorf("got status %d", status)
	}
}

func TestAge(t *testing.T) {
	for want, d := range map[string]time.Duration{"40s": 40 * time.Second, "5m": 5 * time.Minute, "3h": 3 * time.Hour, "12d": 300 * time.Hour} {
		if got := age(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
