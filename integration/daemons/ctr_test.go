// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// ctr returns a ctr command on the shared Rig, with a time limit.
func ctr(t *testing.T, args ...string) *exec.Cmd {
	return shared.Ctr(limited(t, commandLimit), args...)
}

// idle runs a container that does nothing until it is removed at the test's end.
func idle(t *testing.T, r *Rig, id string, options ...string) {
	t.Helper()
	quiet(t, r)
	if err := r.Run(limited(t, commandLimit), id, options, "sleep", "100000"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// t.Context has ended by now. A shim that hangs must not make the next tests
		// fail.
		ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
		defer cancel()
		if err := r.Remove(ctx, id); err != nil {
			t.Errorf("%v, then destroyed: %v", err, r.Destroy(background(t), id))
		}
	})
}

// attached returns a `ctr run --rm` of a container that ends by itself.
func attached(t *testing.T, id string, options []string, argv ...string) *exec.Cmd {
	t.Helper()
	shared.Note(shared.Name, id)
	args := append([]string{"run", "--rm", "--runtime", Runtime, "--fifo-dir", shared.path("fifo")}, options...)
	return ctr(t, append(append(args, ImageName, id), argv...)...)
}

// ctrExec returns an attached `ctr tasks exec`.
func ctrExec(t *testing.T, id, exec string, options []string, argv ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{"tasks", "exec", "--exec-id", exec, "--fifo-dir", shared.path("fifo")}, options...)
	return ctr(t, append(append(args, id), argv...)...)
}

func TestCtrRunReturnsOutputAndExitCode(t *testing.T) {
	quiet(t, shared)
	got := do(t, attached(t, "run", nil, "sh", "-c", "echo out; echo err >&2; exit 7"))
	want := result{7, "out\n", "err\n"}
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCtrRunReportsDeathBySignal(t *testing.T) {
	quiet(t, shared)
	cmd := attached(t, "killed", nil, "sleep", "100000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, commandLimit, "RUNNING", func() bool { return status(t, "killed") == "RUNNING" })
	must(t, ctr(t, "tasks", "kill", "--signal", "SIGKILL", "killed"))
	_ = cmd.Wait() // its exit code is what counts
	if got, want := cmd.ProcessState.ExitCode(), 137; got != want {
		t.Errorf("got exit %d, want %d", got, want)
	}
}

func TestCtrExecReturnsOutputAndExitCode(t *testing.T) {
	idle(t, shared, "exec")
	got := do(t, ctrExec(t, "exec", "e1", nil, "sh", "-c", "echo out; echo err >&2; exit 9"))
	want := result{9, "out\n", "err\n"}
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	for code, argv := range map[int][]string{143: {"sh", "-c", "kill -TERM $$"}, 137: {"sh", "-c", "kill -KILL $$"}, 0: {"true"}} {
		if got := do(t, ctrExec(t, "exec", fmt.Sprint("e", code), nil, argv...)); got.code != code {
			t.Errorf("exec %v: got %v, want exit %d", argv, got, code)
		}
	}
}

func TestCtrExecRunsAsUserInDirectory(t *testing.T) {
	idle(t, shared, "user")
	if got, want := must(t, ctrExec(t, "user", "e1", []string{"--user", "65534", "--cwd", "/tmp"}, "sh", "-c", "id -u; pwd")), "65534\n/tmp"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCtrExecOfMissingBinaryFailsAndLeavesContainerUsable(t *testing.T) {
	idle(t, shared, "missing")
	got := do(t, ctrExec(t, "missing", "e1", nil, "/no/such/binary"))
	if got.code == 0 || !strings.Contains(got.stderr, "no such file or directory") {
		t.Errorf("got %v, want a failure that names the missing file", got)
	}
	// ctr deletes the failed exec, so the same id must be free again.
	if got := do(t, ctrExec(t, "missing", "e1", nil, "true")); got.code != 0 {
		t.Errorf("next exec: %v", got)
	}
}

func TestCtrExecOnTerminalHasItsSize(t *testing.T) {
	idle(t, shared, "tty")
	s := onTerminal(t, ctrExec(t, "tty", "e1", []string{"--tty"}, "sh", "-c", sizes), 31, 99)
	s.shows(t, "size=31 99")
	s.keys(t, "quit\r")
	s.ends(t, 11)
}

func TestCtrAttachTalksToADetachedTask(t *testing.T) {
	quiet(t, shared)
	const id = "attach"
	shared.Note(shared.Name, id)
	must(t, ctr(t, "run", "--detach", "--runtime", Runtime, "--fifo-dir", shared.path("fifo"), ImageName, id,
		"sh", "-c", "while read line; do echo got $line; [ $line = bye ] && exit 13; done"))
	cmd := ctr(t, "tasks", "attach", id)
	cmd.Stdin = strings.NewReader("hello\nbye\n")
	if got, want := do(t, cmd), (result{13, "got hello\ngot bye\n", ""}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := shared.Remove(background(t), id); err != nil {
		t.Error(err)
	}
}

// floodOfBytes returns 64 MiB of random bytes, in which no lost or repeated part goes
// unnoticed, and their SHA-256.
func floodOfBytes() (io.Reader, string) {
	const size = 64 << 20
	sum := sha256.New()
	_, _ = io.CopyN(sum, rand.New(rand.NewSource(1)), size) // neither side can fail
	return io.LimitReader(rand.New(rand.NewSource(1)), size), hex.EncodeToString(sum.Sum(nil))
}

// carries checks that a command that runs cat returns 64 MiB unchanged.
func carries(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	data, want := floodOfBytes()
	sum := sha256.New()
	cmd.Stdin, cmd.Stdout = data, sum
	if got := do(t, cmd); got.code != 0 {
		t.Fatal(got)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		t.Errorf("sha256 of what came back: got %s, want %s", got, want)
	}
}

func TestCtrExecCarries64MiBThroughStdinAndStdout(t *testing.T) {
	idle(t, shared, "bytes")
	carries(t, ctrExec(t, "bytes", "e1", nil, "cat"))
}

func TestCtrTaskCreatedStartedKilledDeletedStepByStep(t *testing.T) {
	quiet(t, shared)
	const id = "steps"
	shared.Note(shared.Name, id)
	must(t, ctr(t, "containers", "create", "--runtime", Runtime, ImageName, id, "sleep", "100000"))
	must(t, ctr(t, "tasks", "start", "--null-io", "--detach", id))
	if got := status(t, id); got != "RUNNING" {
		t.Errorf("after start: got %s, want RUNNING", got)
	}
	must(t, ctr(t, "tasks", "pause", id))
	if got := status(t, id); got != "PAUSED" {
		t.Errorf("after pause: got %s, want PAUSED", got)
	}
	must(t, ctr(t, "tasks", "resume", id))
	if got := status(t, id); got != "RUNNING" {
		t.Errorf("after resume: got %s, want RUNNING", got)
	}
	if got := do(t, ctr(t, "tasks", "delete", id)); got.code == 0 {
		t.Error("delete of a running task succeeded")
	}
	must(t, ctr(t, "tasks", "kill", "--signal", "SIGKILL", id))
	eventually(t, 5*time.Second, "STOPPED after SIGKILL", func() bool { return status(t, id) == "STOPPED" })
	if got := do(t, ctr(t, "tasks", "delete", id)); got.code != 0 || !strings.Contains(got.stderr, "exit code 137") {
		t.Errorf("delete: got %v, want a warning of exit code 137", got)
	}
	must(t, ctr(t, "containers", "delete", id))
}

func status(t *testing.T, id string) string {
	t.Helper()
	return statusOn(t, shared, id)
}

// statusOn returns the status of a task as `ctr tasks ls` shows it, or "absent".
func statusOn(t *testing.T, r *Rig, id string) string {
	t.Helper()
	for _, line := range strings.Split(must(t, r.Ctr(limited(t, commandLimit), "tasks", "ls")), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == id {
			return f[2]
		}
	}
	return "absent"
}

func TestCtrEventsShowEachExitOnceAndInitLast(t *testing.T) {
	idle(t, shared, "events")
	ctx := limited(t, commandLimit)
	events, err := shared.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Close)
	const execs = 10
	for i := range execs {
		got := do(t, ctrExec(t, "events", fmt.Sprint("e", i), nil, "sh", "-c", fmt.Sprint("exit ", i)))
		if got.code != i {
			t.Errorf("exec %d: %v", i, got)
		}
	}
	must(t, ctrExec(t, "events", "sleeper", []string{"--detach"}, "sleep", "100000"))
	must(t, ctr(t, "tasks", "kill", "--signal", "SIGKILL", "events"))
	if err := events.Wait(10*time.Second, func([]Event) bool { return len(events.Exits("events")) >= execs+2 }); err != nil {
		t.Error(err)
	}
	if err := events.Fence(ctx); err != nil {
		t.Fatal(err)
	}
	exits := events.Exits("events")
	var order []string
	for i, e := range exits {
		order = append(order, fmt.Sprintf("%s=%d", e.ID, e.ExitStatus))
		if i < execs && (e.ID != fmt.Sprint("e", i) || e.ExitStatus != uint32(i)) {
			t.Errorf("exit %d: got %s with %d", i, e.ID, e.ExitStatus)
		}
	}
	if n := len(exits); n != execs+2 || exits[n-1].ID != "events" || exits[n-2].ID != "sleeper" || exits[n-1].ExitStatus != 137 {
		t.Errorf("got exits %v, want e0..e%d, sleeper=137, events=137", order, execs-1)
	}
}
