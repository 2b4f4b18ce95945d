// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
)

// binaries builds shimverify and the shim once, as packaging/build does: they
// lie in a directory of their own, with nothing else.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "shimverify-test")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-X main.version=1.2.3 -X main.revision=abc",
		"-o", dir, "containerd-shim.v1/cmd/shimverify", "containerd-shim.v1/cmd/containerd-shim")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("go build: %w: %s", err, out)
	}
	return dir, os.Chmod(dir, 0o755)
})

func TestMain(m *testing.M) {
	status := m.Run()
	if dir, _ := binaries(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(status)
}

// built is the directory of the binaries.
func built(t *testing.T) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// bare is the command on a host that has nothing but Debian's programs.
func bare(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(dir, "shimverify"), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return cmd
}

// ended runs cmd and returns its exit status, stdout and stderr.
func ended(t *testing.T, cmd *exec.Cmd) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestExitStatus(t *testing.T) {
	dir := built(t)
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("containerd-shim\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(text)
	for _, row := range []struct {
		name string
		args []string
		want int
		text string // in stdout or stderr
	}{
		{"no verb", nil, exitBroken, "usage:"},
		{"unknown verb", []string{"frobnicate"}, exitBroken, "usage:"},
		{"help", []string{"help"}, exitPass, "usage:"},
		{"help of a verb", []string{"run", "-h"}, exitPass, "-runtime"},
		{"version", []string{"--version"}, exitPass, "Version:  1.2.3\n  Revision: abc\n"},
		{"list", []string{"list", "B01b"}, exitPass, "flood of execs"},
		{"list as a document", []string{"list", "--markdown"}, exitPass, "# Known bugs of the shims"},
		{"bench of nothing", []string{"bench", "--shim", "./containerd-shim"}, exitBroken, "flood|storm"},
		{"bench of none", []string{"bench", "storm", "--shim", "/bin/true"}, exitBroken, "/bin/true is not a v1 shim"},
		{"bench", []string{"bench", "flood", "-n", "3", "--shim", "./containerd-shim"}, exitPass, "| 3 | 0 | 0 |"},
		{"unknown flag", []string{"run", "-frobnicate"}, exitBroken, "not defined"},
		{"argument too many", []string{"run", "B01"}, exitBroken, "unexpected argument"},
		{"no such check", []string{"run", "--only", "nonsense"}, exitBroken, "no check matches"},
		{"no shim", []string{"run", "--shim", "/nonexistent"}, exitBroken, "make build"},
		{"no runtime", []string{"run", "--shim", "./containerd-shim", "--runtime", "/nonexistent"}, exitBroken, "apt-get install runc"},
		{"runtime that runs nothing", []string{"run", "--shim", "./containerd-shim", "--runtime", "/bin/false"}, exitBroken, "cannot run a container on this host"},
		{"-n out of bounds", []string{"run", "-n", "0"}, exitBroken, "-n 0"},
		{"-j out of bounds", []string{"run", "-j", "1000"}, exitBroken, "-j 1000"},
		{"all pass", []string{"run", "--only", "B59b", "--shim", "./containerd-shim"}, exitPass, "1 pass, 0 fail"},
		{"one fails", []string{"run", "--only", "B25,B59b", "--shim", "/usr/bin/containerd-shim"}, exitFail, " fail"},
		{"no shim at all", []string{"run", "--only", "B59b", "--shim", "/bin/true"}, exitBroken, "/bin/true is not a v1 shim"},
		{"a v2 shim", []string{"run", "--only", "B59b,B33b", "--shim", "/usr/bin/containerd-shim-runc-v2"}, exitPass, "1 pass, 0 fail"},
		{"a check that a v2 shim is not asked", []string{"run", "--only", "B59b", "--shim", "/usr/bin/containerd-shim-runc-v2"}, exitBroken, "is for shims of this kind"},
		{"inject of a v2 shim", []string{"inject", "--shim", "/usr/bin/containerd-shim-runc-v2"}, exitBroken, "inject is for v1 shims"},
		{"no v2 shim", []string{"run", "--only", "B33b", "--v2", "--shim", "/bin/true"}, exitBroken, "/bin/true -v: no version"},
		{"a text", []string{"run", "--only", "B59b", "--shim", "./text"}, exitBroken, "is not a v1 shim"},
		{"the other shim is none", []string{"compare", "--only", "B59b", "--shim", "./containerd-shim", "--vs", "/bin/true"}, exitBroken, "/bin/true is not a v1 shim"},
		{"demo of none", []string{"demo", "--shim", "./containerd-shim", "--vs", "/bin/true"}, exitBroken, "/bin/true is not a v1 shim"},
		{"the shim in PATH", []string{"run", "--only", "B59b"}, exitPass, "testing /usr/bin/containerd-shim"},
		{"list nothing", []string{"list", "nope"}, exitFail, `no check matches "nope"`},
		{"list two", []string{"list", "B01", "B02"}, exitBroken, "commas"},
		{"unknown release", []string{"run", "--expect", "--only", "B59b", "--shim", "/bin/false"}, exitBroken, "--release"},
		{"JSON that cannot be written", []string{"run", "--shim", "./containerd-shim", "--json", "/nonexistent/x"}, exitBroken, "/nonexistent/x"},
		{"JUnit that cannot be written", []string{"run", "--shim", "./containerd-shim", "--junit", "/proc"}, exitBroken, "/proc"},
	} {
		t.Run(row.name, func(t *testing.T) {
			begun := time.Now()
			status, out, errs := ended(t, bare(dir, row.args...))
			if took := time.Since(begun); status == exitBroken && took > 30*time.Second { // a catalogue takes minutes
				t.Errorf("it took %v to say that it cannot run", took)
			}
			if status != row.want || !strings.Contains(out+errs, row.text) {
				t.Errorf("status %d, want %d; no %q in stdout %q, stderr %q", status, row.want, row.text, out, errs)
			}
		})
	}
}

// TestNoexecRun: some distributions mount /run noexec. Containers run there, and so do the checks.
func TestNoexecRun(t *testing.T) {
	dir := built(t)
	cmd := bare(dir)
	cmd.Path = "/usr/bin/unshare"
	cmd.Args = []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs -o noexec tmpfs /run && exec ./shimverify run --only B19b,B59b --shim ./containerd-shim"}
	if status, out, errs := ended(t, cmd); status != exitPass || !strings.Contains(out, "2 pass") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
}

// TestV2ShimWhoseStartHangs: nothing bounded it, and not even ^C.
func TestV2ShimWhoseStartHangs(t *testing.T) {
	dir := built(t)
	hangs := filepath.Join(t.TempDir(), "containerd-shim-hangs-v2")
	script := "#!/bin/sh\ncase $* in\n-v) echo Version: v1.7.35 ;;\n*start*) exec sleep 1000 ;;\nesac\n"
	if err := errors.Join(os.Chmod(filepath.Dir(hangs), 0o755), os.WriteFile(hangs, []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	status, out, errs := ended(t, bare(dir, "run", "--only", "B33b", "--shim", hangs))
	if status == exitPass || !strings.Contains(out+errs, "within 30s") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
}

// Without root there is one line that says so, and nothing is touched.
func TestWithoutRoot(t *testing.T) {
	cmd := bare(built(t), "run", "--shim", "./containerd-shim")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	status, out, errs := ended(t, cmd)
	if status != exitBroken || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "root") {
		t.Errorf("status %d, stdout %q, stderr %q: want %d and one line about root", status, out, errs, exitBroken)
	}
}

// The binary needs no Go, no source and no other file: two files in an empty
// directory test one another.
func TestBinaryElsewhere(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"shimverify", "containerd-shim"} {
		data, err := os.ReadFile(filepath.Join(built(t), name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	status, out, errs := ended(t, bare(dir, "run", "--only", "B19,B57", "--shim", "./containerd-shim"))
	if status != exitPass {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	status, _, errs = ended(t, bare(dir, "demo"))
	if status != exitBroken || !strings.Contains(errs, "--vs PATH") {
		t.Errorf("demo without a baseline: status %d, %q", status, errs)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

// within waits for a condition.
func within(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if err := wait.For(2*time.Minute, what, cond); err != nil {
		t.Fatal(err)
	}
}
