// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
)

var orderChecks = []Check{
	{ID: "B20", Name: "exec's exit comes before init's",
		Incident: "containerd #9719, #10603, moby #35702: docker deletes the container on init's exit, docker exec clients hang",
		Asserts:  "in a host-pid container, the exits of the execs that end with init are published before init's",
		Run:      initExitLast},
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
