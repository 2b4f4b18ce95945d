// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

func TestUpgrade(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.6"))
	if err := shim.Exec(t.Context(), "e1"); err != nil {
		t.Fatal(err)
	}
	dir, pid := t.TempDir(), strconv.Itoa(shim.PID)
	upgrade := func(args ...string) (int, string) {
		status, o, e := capture(t, append([]string{"upgrade", "-dir", dir, pid}, args...)...)
		return status, o + e
	}
	own := shimtest.Own(t)
	for _, tt := range []struct {
		what   string
		args   []string
		status int
		want   string
	}{
		{"dry run", []string{"-binary", own}, exitSome, "would take over 2 processes (upstream v1.2.6)"},
		{"dry run, a broken one", []string{"-binary", broken(t)}, exitSome, "cannot read the state"},
		{"nothing there", []string{"-yes", "-binary", "/nonexistent"}, exitSome, "no such file"},
		{"not absolute", []string{"-yes", "-binary", "shim"}, exitSome, "not an absolute path"},
		{"another program", []string{"-yes", "-binary", "/bin/busybox"}, exitSome, "not a Go executable"},
		{"upstream's", []string{"-yes", "-binary", "/usr/bin/containerd-shim"}, exitSome, "no shim of this project"},
		{"another namespace", []string{"-yes", "-n", "other", "-binary", own}, exitCheck, "no shim has the pid"},
		{"done", []string{"-yes", "-binary", own}, exitOK, "upgraded: 2 processes"},
		{"again", []string{"-yes", "-binary", own}, exitOK, "runs it already"},
	} {
		if status, o := upgrade(tt.args...); status != tt.status || !strings.Contains(o, tt.want) {
			t.Errorf("%s: status %d, want %d with %q\n%s", tt.what, status, tt.status, tt.want, o)
		}
	}
	if found, err := filepath.Glob(filepath.Join(dir, "evidence", "*", "stacks.txt")); err != nil || len(found) == 0 {
		t.Errorf("evidence: got %v, %v", found, err)
	}
	if _, err := os.Stat(filepath.Join(shim.Bundle, ".shim.state.json")); err == nil {
		t.Error("the state is left behind")
	}
	lifeGoesOn(t, shim)
}

// A shim whose container says so is left alone.
func TestUpgradeObeysTheAnnotation(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.6"))
	spec := `{"annotations":{"shimctl.repair":"never"}}`
	if err := os.WriteFile(filepath.Join(shim.Bundle, "config.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	status, o, e := capture(t, "upgrade", "-yes", "-binary", shimtest.Own(t), "-dir", t.TempDir(), strconv.Itoa(shim.PID))
	if status != exitSome || !strings.Contains(o, "says never") {
		t.Errorf("status %d\n%s%s", status, o, e)
	}
}
