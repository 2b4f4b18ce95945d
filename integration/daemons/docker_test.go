// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/procfs"
)

// docker returns a docker command on the shared Rig, with a time limit.
func docker(t *testing.T, args ...string) *exec.Cmd {
	return shared.Docker(limited(t, commandLimit), args...)
}

// dockerOn returns a docker command on r, with a time limit.
func dockerOn(t *testing.T, r *Rig, args ...string) *exec.Cmd {
	return r.Docker(limited(t, commandLimit), args...)
}

// container starts a detached container that is removed, and must have left
// nothing, at the end of the test.
func container(t *testing.T, r *Rig, options []string, argv ...string) string {
	t.Helper()
	quiet(t, r)
	id, err := r.DockerRun(limited(t, commandLimit), options, argv...)
	if id != "" {
		t.Cleanup(func() { must(t, r.Docker(background(t), "rm", "-f", id)) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// foreground returns an attached `docker run --rm`.
func foreground(t *testing.T, options []string, argv ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{"run", "--rm", "--network", "none"}, options...)
	return docker(t, append(append(args, ImageName), argv...)...)
}

// inspect evaluates a template on a container.
func inspect(t *testing.T, r *Rig, id, format string) string {
	t.Helper()
	return must(t, dockerOn(t, r, "inspect", "--format", format, id))
}

// ended waits for a container's end and returns its exit code as docker reports it.
func ended(t *testing.T, r *Rig, id string) string {
	t.Helper()
	eventually(t, 20*time.Second, "docker sees the end of the container", func() bool {
		return inspect(t, r, id, "{{.State.Status}}") == "exited"
	})
	return inspect(t, r, id, "{{.State.ExitCode}}")
}

func TestDockerRunReturnsOutputAndExitCode(t *testing.T) {
	quiet(t, shared)
	got := do(t, foreground(t, nil, "sh", "-c", "echo out; echo err >&2; exit 7"))
	// The client prints dockerd's warning about the old runtime first.
	if got.code != 7 || got.stdout != "out\n" || !strings.HasSuffix(got.stderr, "\nerr\n") {
		t.Errorf("got %v, want exit 7, out and err", got)
	}
}

func TestDockerRunOfMissingBinaryIs127AndOfNonExecutable126(t *testing.T) {
	quiet(t, shared)
	for argv, want := range map[string]struct {
		code int
		text string
	}{
		"/no/such/binary": {127, "no such file or directory"},
		"nosuchbinary":    {127, "executable file not found"},
		"/etc/passwd":     {126, "permission denied"},
	} {
		if got := do(t, foreground(t, nil, argv)); got.code != want.code || !strings.Contains(got.stderr, want.text) {
			t.Errorf("run %s: got %v, want exit %d and %q", argv, got, want.code, want.text)
		}
	}
}

// In a host-pid container the process is not pid 1 of its namespace, so that a signal's
// default action applies to it. The test waits for it: SIGTERM can get lost while runc's
// init, a Go program with handlers, executes the process.
func TestDockerKillIs137AndTermIs143(t *testing.T) {
	for signal, want := range map[string]string{"KILL": "137", "TERM": "143"} {
		id := container(t, shared, []string{"--pid", "host"}, "sh", "-c", "echo ready; exec sleep 100000")
		eventually(t, commandLimit, "it runs", func() bool { return must(t, docker(t, "logs", id)) == "ready" })
		must(t, docker(t, "kill", "--signal", signal, id))
		if got := ended(t, shared, id); got != want {
			t.Errorf("SIG%s: got exit code %s, want %s", signal, got, want)
		}
		// Killing it again must give an error, and not wait.
		if got := do(t, docker(t, "kill", id)); got.code == 0 || !strings.Contains(got.stderr, "is not running") {
			t.Errorf("kill after the end: got %v, want an error that says it is not running", got)
		}
	}
}

func TestDockerStopSendsTermAndReturnsHandlersCode(t *testing.T) {
	id := container(t, shared, nil, "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done")
	eventually(t, commandLimit, "the trap is set", func() bool { return must(t, docker(t, "logs", id)) == "ready" })
	begin := time.Now()
	must(t, docker(t, "stop", "--time", "30", id))
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("stop took %v: the signal did not arrive", took)
	}
	if got, want := inspect(t, shared, id, "{{.State.ExitCode}}"), "5"; got != want {
		t.Errorf("got exit code %s, want %s", got, want)
	}
}

func TestDockerPauseFreezesAndUnpauseThaws(t *testing.T) {
	id := container(t, shared, nil, "sh", "-c", "while :; do echo tick; sleep 0.05; done")
	ticks := func() int { return strings.Count(must(t, docker(t, "logs", id)), "tick") }
	eventually(t, commandLimit, "the container ticks", func() bool { return ticks() > 2 })
	must(t, docker(t, "pause", id))
	if got := inspect(t, shared, id, "{{.State.Status}}"); got != "paused" {
		t.Errorf("after pause: got %s, want paused", got)
	}
	if got := do(t, docker(t, "exec", id, "true")); got.code == 0 {
		t.Error("exec in a paused container succeeded")
	}
	// Output from before the pause may still be on its way: wait until two looks, a
	// tick or more apart, agree.
	frozen := -1
	eventually(t, 5*time.Second, "no more ticks", func() bool {
		before := frozen
		frozen = ticks()
		return frozen == before
	})
	if got := ticks(); got != frozen {
		t.Errorf("%d ticks came while paused", got-frozen)
	}
	must(t, docker(t, "unpause", id))
	eventually(t, 5*time.Second, "ticks go on", func() bool { return ticks() > frozen })
	if got := inspect(t, shared, id, "{{.State.Status}}"); got != "running" {
		t.Errorf("after unpause: got %s, want running", got)
	}
}

func TestDockerTopListsInitAndExec(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100001")
	must(t, docker(t, "exec", "--detach", id, "sleep", "100002"))
	eventually(t, 5*time.Second, "top shows both processes", func() bool {
		top := must(t, docker(t, "top", id))
		return strings.Contains(top, "sleep 100001") && strings.Contains(top, "sleep 100002")
	})
}

func TestDockerRestartGivesNewProcessEachTime(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	seen := map[string]bool{inspect(t, shared, id, "{{.State.Pid}}"): true}
	for i := range 3 {
		must(t, docker(t, "restart", "--time", "0", id))
		pid := inspect(t, shared, id, "{{.State.Pid}}")
		if seen[pid] || inspect(t, shared, id, "{{.State.Running}}") != "true" {
			t.Errorf("restart %d: pid %s, seen before: %v", i, pid, seen[pid])
		}
		seen[pid] = true
	}
}

func TestDockerRestartPolicyRestartsOnFailure(t *testing.T) {
	id := container(t, shared, []string{"--restart", "on-failure:2"}, "sh", "-c", "exit 3")
	eventually(t, 20*time.Second, "two restarts and the end", func() bool {
		return inspect(t, shared, id, "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}") == "2 exited 3"
	})
}

func TestDockerLogsKeepBothStreamsInFull(t *testing.T) {
	const lines = 20000
	id := container(t, shared, nil, "sh", "-c", fmt.Sprintf("seq 1 %d; seq 1 %d >&2; exit 4", lines, lines))
	if got := ended(t, shared, id); got != "4" {
		t.Errorf("got exit code %s, want 4", got)
	}
	var want strings.Builder
	for i := 1; i <= lines; i++ {
		want.WriteString(strconv.Itoa(i) + "\n")
	}
	got := do(t, docker(t, "logs", id))
	if got.stdout != want.String() || got.stderr != want.String() {
		t.Errorf("got %d and %d bytes, want %d each: %v", len(got.stdout), len(got.stderr), want.Len(), got)
	}
}

func TestDockerHealthCheckTurnsHealthyThenUnhealthy(t *testing.T) {
	id := container(t, shared, []string{"--health-cmd", "test ! -e /sick", "--health-interval", "200ms", "--health-retries", "2"}, "sleep", "100000")
	health := func() string { return inspect(t, shared, id, "{{.State.Health.Status}}") }
	eventually(t, 20*time.Second, "healthy", func() bool { return health() == "healthy" })
	must(t, docker(t, "exec", id, "touch", "/sick"))
	eventually(t, 20*time.Second, "unhealthy", func() bool { return health() == "unhealthy" })
	// Further checks may have failed before we looked.
	if got := inspect(t, shared, id, "{{range .State.Health.Log}}{{.ExitCode}}{{end}}"); !strings.Contains(got, "011") || strings.Trim(got, "01") != "" {
		t.Errorf("exit codes of the checks: got %s, want some 0, then at least two 1", got)
	}
}

// Processes of a container without a pid namespace outlive its init unless the
// shim has runc kill them.
func TestDockerHostPidContainerTakesLeftoversWithIt(t *testing.T) {
	id := container(t, shared, []string{"--pid", "host"}, "sh", "-c",
		"for i in 1 2 3 4 5; do sleep 100003 & done; (sleep 100003 &); trap 'exit 6' TERM; echo ready; while :; do sleep 0.1; done")
	eventually(t, commandLimit, "the container is up", func() bool { return must(t, docker(t, "logs", id)) == "ready" })
	must(t, docker(t, "exec", id, "sh", "-c", "sleep 100003 & sleep 100003 &"))
	inside := func() (n int) {
		for _, p := range procfs.All() {
			if procfs.InCgroup(p.Pid, shared.Name) && procfs.Command(p.Pid) == "sleep 100003" {
				n++
			}
		}
		return n
	}
	if got, want := inside(), 8; got != want {
		t.Errorf("got %d background processes, want %d", got, want)
	}
	must(t, docker(t, "kill", "--signal", "TERM", id))
	if got, want := ended(t, shared, id), "6"; got != want {
		t.Errorf("got exit code %s, want %s", got, want)
	}
	eventually(t, 5*time.Second, "all background processes gone", func() bool { return inside() == 0 })
}
