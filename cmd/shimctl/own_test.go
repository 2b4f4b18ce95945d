// SPDX-License-Identifier: Apache-2.0

//go:build ownshim

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/cmd/shimctl/internal/sanitize"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/internal/stackdump"
)

// ownBinary is the shim of this tree, or SHIM_UNDER_TEST.
func ownBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SHIM_UNDER_TEST"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "containerd-shim")
	if out, err := exec.Command("go", "build", "-o", path, "containerd-shim.v1/cmd/containerd-shim").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

func TestOwnHealthyShimHasNoFinding(t *testing.T) { healthy(t, ownBinary(t)) }

// The names by which a dump shows that verbs of one process wait for each other.
func TestOwnVerbsWaitForEachOther(t *testing.T) {
	shim := started(t, ownBinary(t))
	release := shim.Hold(t, "pause", shim.Pause)
	defer release()
	go func() { _, _ = shim.API.Resume(t.Context(), &emptypb.Empty{}) }() // ends with the shim
	shimtest.Until(t, 10*time.Second, "Resume to be seen behind Pause", func() bool {
		r := stackdump.Explain(taken(t, shim))
		return len(r.Findings) == 0 && len(r.Ongoing) == 1 && r.Ongoing[0].Reason == "RuncHoldsProcess" && r.Requests["Resume"] == 1
	})
	if status, o, e := capture(t, "explain", strconv.Itoa(shim.PID)); status != exitOK || !strings.Contains(o, ", pause of "+shim.ID+", for ") {
		t.Errorf("status %d\n%s%s", status, o, e)
	}
}

// Where this shim can write no file, its stacks come as another's do.
func TestOwnStacksWithNowhereToWrite(t *testing.T) {
	shim := started(t, ownBinary(t), "-stack-dir", "/proc/nowhere")
	if err := unix.Mount("tmpfs", shim.Work, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(shim.Work, 0); err != nil {
			t.Error(err)
		}
	})
	status, o, e := capture(t, "stacks", "-timeout", "2s", "-summary", strconv.Itoa(shim.PID))
	if status != exitOK || !strings.Contains(o, "complete") {
		t.Errorf("status %d\n%s%s", status, o, e)
	}
}

// TestStacksThatCannotBePrinted: the dump may be the only one, taken before a repair.
func TestStacksThatCannotBePrinted(t *testing.T) {
	shim := started(t, ownBinary(t))
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	status, _, e := underTest().with(t, func(p program) int {
		p.out = sanitize.Writer{W: full}
		return p.run(t.Context(), []string{"stacks", strconv.Itoa(shim.PID)})
	})
	if status != exitSome || !strings.Contains(e, "no space left") {
		t.Errorf("status %d\n%s", status, e)
	}
}

// What wedges upstream's shims (B01) must not make ours even suspect, its
// stacks come out of its file, and repair keeps its hands off it.
func TestOwnShim(t *testing.T) {
	shim := started(t, ownBinary(t))
	pid := strconv.Itoa(shim.PID)
	status, o, e := capture(t, "ps", pid)
	if status != exitOK || !strings.Contains(o, " ours") {
		t.Errorf("ps: status %d\n%s%s", status, o, e)
	}
	release := shim.HoldExec(t)
	shim.KillOrphans(t)
	status, o, e = capture(t, "check", "-confirm", "-state", "always", "-state-file", "", pid)
	if status != exitOK || !strings.Contains(o, "Healthy") {
		t.Errorf("check: status %d\n%s%s", status, o, e)
	}
	status, o, e = capture(t, "stacks", "-summary", pid)
	if status != exitOK || !strings.Contains(o, "by file, complete") {
		t.Errorf("stacks: status %d\n%s%s", status, o, e)
	}
	status, o, e = capture(t, "explain", pid)
	if status != exitOK || !strings.Contains(o, "the dump is complete") || !strings.Contains(o, "RuncRunning") {
		t.Errorf("explain: status %d\n%s%s", status, o, e)
	}
	t.Log("\n" + o)
	release()
	status, o, e = capture(t, "repair", "-yes", "-state-file", "", "-dir", t.TempDir(), pid)
	if status != exitOK || !strings.Contains(o, "this project's shim") {
		t.Errorf("repair: status %d\n%s%s", status, o, e)
	}
	if !shim.Answers() {
		t.Error("it does not answer")
	}
}

// TestUpgradeOfOwnShim: a dry run changes nothing; a program that is none is
// refused by the shim, which lives on; a copy of it takes its place, and with -all
// too.
func TestUpgradeOfOwnShim(t *testing.T) {
	binary := ownBinary(t)
	shim := started(t, binary)
	pid, dir := strconv.Itoa(shim.PID), t.TempDir()
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name, "containerd-shim")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, half := write("one", data), write("half", data[:len(data)/2])
	runs := func() string {
		exe, _ := os.Readlink("/proc/" + pid + "/exe") // "" is no program of this test
		return exe
	}
	for _, c := range []struct {
		args   []string
		status int
		says   string
		runs   string
	}{
		{[]string{"-binary", one}, exitSome, "would be asked", binary},
		{[]string{"-yes", "-binary", half}, exitSome, "not upgraded", binary},
		{[]string{"-yes", "-binary", one}, exitOK, "upgraded to", one},
		{[]string{"-yes", "-binary", one}, exitOK, "runs it already", one},
		{[]string{"-yes", "-binary", one, "-sha256", strings.Repeat("0", 64)}, exitSome, "has the SHA-256", one},
	} {
		status, o, e := capture(t, append(append([]string{"upgrade", "-dir", dir}, c.args...), pid)...)
		if status != c.status || !strings.Contains(o+e, c.says) || runs() != c.runs {
			t.Errorf("%q: status %d, runs %s\n%s%s", c.args, status, runs(), o, e)
		}
		if !shim.Answers() {
			t.Fatalf("%q: State is not answered", c.args)
		}
	}

	// One that runs the program and does not answer has not been upgraded.
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	thaw := shimtest.Freeze(t, shim.PID)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	u := &upgrader{program: underTest(), yes: true, binary: one, dir: dir, maxFailures: 1}
	if o := u.one(ctx, &s); o.result != resultUnanswered || o.status() != exitUnverified {
		t.Errorf("it is frozen: %s, %v", o.result, o.err)
	}
	thaw()
	if o := u.one(t.Context(), &s); o.result != resultCurrent {
		t.Errorf("it goes on: %s, %v", o.result, o.err)
	}
	// As one that was exchanged and could not read the state: it answers that there is none.
	s.ID = "lost"
	if o := u.one(t.Context(), &s); o.result != resultUnanswered || !strings.Contains(o.err.Error(), "lost") {
		t.Errorf("it does not know its container: %s, %v", o.result, o.err)
	}
}
