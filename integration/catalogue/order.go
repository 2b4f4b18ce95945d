// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

var orderChecks = []Check{
	{ID: "B20", Name: "exec's exit comes before init's",
		Incident: "containerd #9719, #10603, moby #35702: docker deletes the container on init's exit, docker exec clients hang",
		Asserts:  "in a host-pid container, the exits of the execs that end with init are published before init's",
		Run:      initExitLast},
	{ID: "B20b", Name: "init dies while runc exec is at work",
		Incident: "containerd #9719, #9828: the container ends, docker deletes it, and the clients of docker exec hang",
		Asserts:  "init's exit is not published before that runc has returned; then come the exec's start, its exit, and init's",
		Run:      initExitAfterStart},
	{ID: "B21", Name: "exec lands while init is dying",
		Incident: "containerd #10634, #10651: stray processes of a dead host-pid container",
		Asserts:  "the process of an exec that was in flight at init's death is killed, and init's exit is published",
		Run:      execAfterInit},
}

func initExitLast(c *harness.Case) {
	b := upWith(c, harness.Options{Container: harness.Container{HostPid: true}})
	ids := []string{"e0", "e1", "e2", "e3"}
	for _, id := range ids {
		b.MustExec(id, harness.IO{}, "sleep")
	}
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	b.AwaitExit(10*time.Second, b.ID)
	for _, id := range ids {
		b.AwaitExit(10*time.Second, id)
	}
	all := b.Daemon.Events()
	if last := all[len(all)-1]; last.Exit.GetID() != b.ID {
		c.Errorf("the last exit is that of %s, want init's: %v", last.Exit.GetID(), all)
	}
	if len(all) != len(ids)+1 {
		c.Errorf("%d exits, want %d: %v", len(all), len(ids)+1, all)
	}
}

// initExitAfterStart kills init once the process of an exec is there and its runc has
// not returned. In a pid namespace of its own the kernel lets init end after all others
// (zap_pid_ns_processes), so that the shim has both exits, in their order, in hand.
func initExitAfterStart(c *harness.Case) {
	const overtakes = 300 * time.Millisecond // is what a shim that does not wait needs to publish, and less than one may wait
	b := upFaked(c, onMatch("exec", "/e.pid", runReal, atGate("late")))
	start := startAtGate(c, b, "e", "late", "sleep")
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	c.Await(5*time.Second, "init is reaped, and before it the exec's process", func() bool { return !procfs.Exists(b.InitPid) })
	if wait.Until(overtakes, func() bool { return len(b.Daemon.ExitsOf(b.ID)) > 0 }) {
		c.Errorf("init's exit is published before runc exec has returned: %v", b.Daemon.Events())
	}
	open(c, b.Fake.Gate("late"))
	c.Must(start.Await(10*time.Second), "Start of e, whose process was there")
	b.AwaitExit(10*time.Second, b.ID)
	b.AwaitStatus(10*time.Second, "e", 137)
	if all := b.Daemon.Events(); len(all) != 2 || all[1].Exit.GetID() != b.ID {
		c.Errorf("want one exit of the exec and then init's, got %v", all)
	}
	if !c.V2 {
		return // the daemon publishes the start, when Start has returned
	}
	var got []string
	for _, e := range b.Daemon.Of(b.ID, "e") {
		got = append(got, topic(e))
	}
	if want := []string{"exec-added", "exec-started", "exit"}; !slices.Equal(got, want) {
		c.Errorf("events of the exec: %v, want %v", got, want)
	}
}

func execAfterInit(c *harness.Case) {
	b := upWith(c, hostPid(on("exec", atGate("slow"), fakeruntime.Step{Op: fakeruntime.Process, Name: "lives"})))
	start := startAtGate(c, b, "e", "slow")
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	c.Await(5*time.Second, "init is reaped", func() bool { return !procfs.Exists(b.InitPid) })
	open(c, b.Fake.Gate("slow"))
	err := start.Await(10 * time.Second)
	c.Logf("Start: %v", c.Prompt(err))
	c.Await(5*time.Second, "the late process has been started", func() bool { return len(b.Fake.Spawned()) > 0 })
	b.Gone(5*time.Second, "the exec that landed late", b.Fake.Spawned()[0])
	b.AwaitExit(10*time.Second, b.ID)
}
