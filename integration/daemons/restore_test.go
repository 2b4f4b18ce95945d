// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/procfs"
)

// withDockerd is ownRig with a dockerd.
func withDockerd(t *testing.T) *Rig {
	t.Helper()
	r := ownRig(t)
	if err := r.StartDockerd(limited(t, startLimit)); err != nil {
		t.Fatal(err)
	}
	return r
}

// crash kills both daemons with SIGKILL, runs while they are down, and starts
// them again.
func crash(t *testing.T, r *Rig, down func()) {
	t.Helper()
	if err := r.KillAll(); err != nil {
		t.Fatal(err)
	}
	down()
	ctx := limited(t, 2*startLimit)
	if err := errors.Join(r.StartContainerd(ctx), r.StartDockerd(ctx)); err != nil {
		t.Fatal(err)
	}
}

// pidOf returns the pid of a running container's init, as docker knows it.
func pidOf(t *testing.T, r *Rig, id string) int {
	t.Helper()
	var pid int
	for _, c := range inspect(t, r, id, "{{.State.Pid}}") {
		pid = pid*10 + int(c-'0')
	}
	if pid == 0 {
		t.Fatalf("container %s has no process", id)
	}
	return pid
}

func TestLiveRestoreAfterBothDaemonsWereKilled(t *testing.T) {
	r := withDockerd(t)
	id := container(t, r, nil, "sh", "-c", "n=0; trap 'exit 9' TERM; while :; do n=$((n+1)); echo tick $n; sleep 0.05; done")
	logs := func() []string { return strings.Split(must(t, dockerOn(t, r, "logs", id)), "\n") }
	eventually(t, commandLimit, "the container ticks", func() bool { return len(logs()) > 3 })
	pid := pidOf(t, r, id)
	shim, err := r.Shim(dockerNamespace, id)
	if err != nil {
		t.Fatal(err)
	}
	crash(t, r, func() {
		if !procfs.Alive(pid) {
			t.Error("the container died with its daemons")
		}
	})
	if got := pidOf(t, r, id); got != pid {
		t.Errorf("after restore: got pid %d, want %d", got, pid)
	}
	if again, err := r.Shim(dockerNamespace, id); err != nil || again.Pid != shim.Pid {
		t.Errorf("after restore: got shim %+v and %v, want pid %d", again, err, shim.Pid)
	}
	if got := do(t, dockerOn(t, r, "exec", id, "sh", "-c", "exit 21")); got.code != 21 {
		t.Errorf("exec after restore: got %v, want exit 21", got)
	}
	before := len(logs())
	eventually(t, 10*time.Second, "the log goes on", func() bool { return len(logs()) > before })
	must(t, dockerOn(t, r, "stop", "--time", "30", id))
	if got, want := inspect(t, r, id, "{{.State.ExitCode}}"), "9"; got != want {
		t.Errorf("exit code after restore: got %s, want %s", got, want)
	}
	// Output that was written while no daemon read it must not be lost: the numbers
	// have no gap.
	for i, line := range logs() {
		if want := "tick " + itoa(i+1); line != want {
			t.Fatalf("log line %d: got %q, want %q", i+1, line, want)
		}
	}
}

// The container ends while no daemon runs; dockerd learns it from the shim at its next
// start.
func TestExitWhileBothDaemonsAreDownIsReportedByDocker(t *testing.T) {
	r := withDockerd(t)
	dir := t.TempDir()
	id := container(t, r, []string{"--volume", dir + ":/gate"}, "sh", "-c", "echo ready; while [ ! -e /gate/open ]; do sleep 0.05; done; exit 42")
	killed := container(t, r, nil, "sleep", "100000")
	eventually(t, commandLimit, "the container is up", func() bool { return must(t, dockerOn(t, r, "logs", id)) == "ready" })
	pid, victim := pidOf(t, r, id), pidOf(t, r, killed)
	crash(t, r, func() {
		touch(t, dir+"/open")
		if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for _, p := range []int{pid, victim} {
			eventually(t, 10*time.Second, "the process has ended and was reaped", func() bool { return !procfs.Exists(p) })
		}
	})
	for id, want := range map[string]string{id: "42", killed: "137"} {
		if got := ended(t, r, id); got != want {
			t.Errorf("got exit code %s, want %s", got, want)
		}
		must(t, dockerOn(t, r, "start", id)) // the id must be free for a new task
	}
}

// With a restart policy, an end that no daemon saw leads to a new start.
func TestExitWhileBothDaemonsAreDownIsFollowedByARestart(t *testing.T) {
	r := withDockerd(t)
	id := container(t, r, []string{"--restart", "always"}, "sleep", "100000")
	pid := pidOf(t, r, id)
	crash(t, r, func() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "the process was reaped", func() bool { return !procfs.Exists(pid) })
	})
	eventually(t, 20*time.Second, "the container runs again", func() bool {
		return inspect(t, r, id, "{{.State.Running}}") == "true" && pidOf(t, r, id) != pid
	})
	must(t, dockerOn(t, r, "exec", id, "true"))
}

// Only containerd dies; dockerd connects to the new one by itself.
func TestContainerdKilledUnderDockerdLeavesContainersUsable(t *testing.T) {
	r := withDockerd(t)
	id := container(t, r, nil, "sh", "-c", "trap 'exit 8' TERM; echo ready; while :; do sleep 0.1; done")
	eventually(t, commandLimit, "the container is up", func() bool { return must(t, dockerOn(t, r, "logs", id)) == "ready" })
	if err := r.StopContainerd(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := r.StartContainerd(limited(t, startLimit)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "docker exec works again", func() bool { return do(t, dockerOn(t, r, "exec", id, "true")).code == 0 })
	must(t, dockerOn(t, r, "stop", "--time", "30", id))
	if got, want := inspect(t, r, id, "{{.State.ExitCode}}"), "8"; got != want {
		t.Errorf("got exit code %s, want %s", got, want)
	}
}

// An orderly stop and start, as in a package upgrade.
func TestLiveRestoreAfterAnOrderlyRestartOfBothDaemons(t *testing.T) {
	r := withDockerd(t)
	id := container(t, r, nil, "sleep", "100000")
	pid := pidOf(t, r, id)
	if err := errors.Join(r.StopDockerd(syscall.SIGTERM), r.StopContainerd(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	ctx := limited(t, 2*startLimit)
	if err := errors.Join(r.StartContainerd(ctx), r.StartDockerd(ctx)); err != nil {
		t.Fatal(err)
	}
	if got := pidOf(t, r, id); got != pid {
		t.Errorf("got pid %d, want %d", got, pid)
	}
	if got := do(t, dockerOn(t, r, "exec", id, "sh", "-c", "exit 22")); got.code != 22 {
		t.Errorf("got %v, want exit 22", got)
	}
}

// B04: an exit that happens while containerd is down is published once when it is
// back, and the exec's before init's. The shim is stopped while the daemon starts, so
// that `ctr events` is sure to listen before the shim tries again.
func TestExitWhileContainerdIsDownIsPublishedOnItsReturn(t *testing.T) {
	r := ownRig(t)
	const id = "down"
	idle(t, r, id)
	ctx := limited(t, 2*time.Minute)
	if _, err := output(r.Ctr(ctx, "tasks", "exec", "--exec-id", "e1", "--detach", "--fifo-dir", r.path("fifo"), id, "sleep", "100001")); err != nil {
		t.Fatal(err)
	}
	shim, err := r.Shim(r.Name, id)
	if err != nil {
		t.Fatal(err)
	}
	kids := procfs.Children(shim.Pid)
	var exec, init int
	for _, p := range kids {
		switch procfs.Command(p.Pid) {
		case "sleep 100001":
			exec = p.Pid
		case "sleep 100000":
			init = p.Pid
		}
	}
	if exec == 0 || init == 0 {
		t.Fatalf("children of the shim: %v", kids)
	}
	if err := r.StopContainerd(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{exec, init} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "the process was reaped", func() bool { return !procfs.Exists(pid) })
	}
	if err := syscall.Kill(shim.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := func() { _ = syscall.Kill(shim.Pid, syscall.SIGCONT) }
	defer resume()
	if err := r.StartContainerd(ctx); err != nil {
		t.Fatal(err)
	}
	events, err := r.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	resume()
	if err := events.Wait(20*time.Second, func([]Event) bool { return len(events.Exits(id)) >= 2 }); err != nil {
		t.Error(err)
	}
	if err := events.Fence(ctx); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events.Exits(id) {
		got = append(got, e.ID+"="+itoa(int(e.ExitStatus)))
	}
	if want := "e1=137 down=137"; strings.Join(got, " ") != want {
		t.Errorf("got exits %v, want %s", got, want)
	}
}

// The next test would prove nothing if this rig did not notice a publisher.
func TestRecorderSeesAForkedPublisher(t *testing.T) {
	r := ownRig(t)
	before, err := r.Publishes()
	if err != nil || len(before) != 0 {
		t.Fatalf("got %v and %v, want no publish yet", before, err)
	}
	ctx := limited(t, commandLimit)
	cmd := command(ctx, r.self(), "--address", r.Address(), "publish", "--topic", "/tasks/exit", "--namespace", r.Name)
	_ = do(t, cmd) // the daemon refuses an empty event, but the attempt counts
	after, err := r.Publishes()
	if err != nil || len(after) != 1 || !strings.Contains(after[0], "publish --topic /tasks/exit") {
		t.Errorf("got %v and %v, want one publish", after, err)
	}
}

// A publisher is a process with a 40 MB binary for each exit. None is needed while the
// daemon answers on its sockets.
func TestNoPublisherIsForkedWhileTheDaemonAnswers(t *testing.T) {
	r := ownRig(t)
	const id, execs = "sockets", 5
	idle(t, r, id)
	ctx := limited(t, commandLimit)
	events, err := r.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	for i := range execs {
		must(t, r.Ctr(ctx, "tasks", "exec", "--exec-id", "e"+itoa(i), "--fifo-dir", r.path("fifo"), id, "true"))
	}
	if err := events.Wait(20*time.Second, func([]Event) bool { return len(events.Exits(id)) == execs }); err != nil {
		t.Error(err)
	}
	forked, err := r.Publishes()
	if err != nil || len(forked) != 0 {
		t.Errorf("%d exits: got %d forked publishers and %v, want none: %q", execs, len(forked), err, forked)
	}
}
