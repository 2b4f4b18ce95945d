// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
)

var pidChecks = []Check{
	{ID: "B16", Load: Alone, Name: "Kill of a finished exec whose pid is in use again",
		Incident: "containerd #2832, #3366: a late docker exec kill ends a stranger",
		Asserts:  "NotFound, and the process that has the pid now lives",
		Run:      killReusedPid},
	{ID: "B17", Load: Alone, Name: "exec gets the pid of a finished one",
		Incident: "containerd #4023, moby #40514: the new exec hangs for ever, the old one exits twice",
		Asserts:  "exactly one exit for each exec, with its own status, in six rounds",
		Run:      pidReuse},
	{ID: "B18", Name: "restored container dies before runc restore returns",
		Incident: "regression of containerd #3857: its exit is lost",
		Asserts:  "TaskExit is published, Wait returns, State says STOPPED",
		Run:      restoreExit},
	{ID: "B19", Name: "exec dies before runc exec returns",
		Incident: "containerd #2826, #2970, #1452: `docker exec true` hangs",
		Asserts:  "Start succeeds, the exit has the status and the pid, State says STOPPED and keeps the pid",
		Run:      earlyExecExit},
	{ID: "B19b", Name: "init dies before runc start returns",
		Incident: "containerd #2826, #8617",
		Asserts:  "Start succeeds, the exit has the status, State says STOPPED and keeps the pid",
		Run:      earlyInitExit},
}

func killReusedPid(c *harness.Case) {
	b := up(c)
	pid := b.MustExec("e", harness.IO{}, "exit:0")
	b.AwaitExit(5*time.Second, "e")
	c.Await(5*time.Second, "the exec is reaped", func() bool { return !procfs.Exists(pid) })
	victim := c.ProcessWithPid(pid)
	defer victim.Wait()         //nolint:errcheck // only to reap it
	defer victim.Process.Kill() //nolint:errcheck // the shim may have killed it
	wantCode(c, "Kill of a finished exec", b.Kill("e", 9, false), notFound)
	c.Never(500*time.Millisecond, "a process that is not the container's was killed", func() bool { return !procfs.Alive(pid) })
}

func pidReuse(c *harness.Case) {
	const rounds, tries = 6, 30
	b := upFaked(c)
	want := map[string]uint32{}
	for i, done := 0, 0; done < rounds; i++ {
		if i == tries {
			c.Need(fmt.Errorf("only %d times in %d tries", done, tries), "give a new exec the pid of an old one")
		}
		old, fresh, gate := fmt.Sprintf("old%d", i), fmt.Sprintf("new%d", i), fmt.Sprintf("die%d", i)
		pid := b.MustExec(old, harness.IO{}, "exit:0")
		b.AwaitExit(5*time.Second, old)
		want[old] = 0
		c.Await(5*time.Second, "the old exec is reaped", func() bool { return !procfs.Exists(pid) })
		c.Need(b.Fake.Play(onMatch("exec", "/"+fresh+".pid", fakeruntime.Step{Op: fakeruntime.Process, N: 5, Name: gate, Text: strconv.Itoa(pid)})), "play")
		c.Must(b.Exec(fresh, harness.IO{}), "Exec "+fresh)
		if _, err := b.Client.Start(fresh); c.Prompt(err) != nil {
			if !strings.Contains(err.Error(), fakeruntime.NoPid) {
				c.Fatalf("Start of %s: %v", fresh, err)
			}
			// Another process of the host has got the pid.
			c.Logf("round %d: %v", i, err)
			continue
		}
		done++
		open(c, b.Fake.Gate(gate))
		b.AwaitExit(5*time.Second, fresh)
		want[fresh] = 5
		c.Must(waits(b, fresh), "Wait of "+fresh)
	}
	eachOnce(c, b, want)
}

func restoreExit(c *harness.Case) {
	b := faked(c, on("restore", fakeruntime.Step{Op: fakeruntime.Sibling, N: 3, Name: "die"}, atGate("slow")))
	image := b.Path("image")
	c.Need(os.Mkdir(image, 0o700), "make directory")
	r := b.CreateRequest(harness.IO{})
	r.Checkpoint = image
	_, err := b.CreateTask(r)
	c.Must(err, "Create from a checkpoint")
	start := heldAt(c, b, "slow", "Start", starting(b, b.ID))
	pid := b.Fake.Spawned()[0]
	open(c, b.Fake.Gate("die"))
	c.Await(5*time.Second, "the restored init is reaped", func() bool { return !procfs.Exists(pid) })
	// Give the shim time to look for the process of the exit, which it does not know yet.
	elapse(300 * time.Millisecond)
	open(c, b.Fake.Gate("slow"))
	c.Must(start.Await(10*time.Second), "Start")
	e := b.AwaitExit(5*time.Second, b.ID)
	if e.Exit.GetExitStatus() != 3 || int(e.Exit.GetPid()) != pid {
		c.Errorf("exit: pid %d status %d, want pid %d status 3", e.Exit.GetPid(), e.Exit.GetExitStatus(), pid)
	}
	c.Must(waitFor(b, b.ID), "Wait")
	stopped(c, b, b.ID, pid)
}

func earlyExecExit(c *harness.Case) {
	b := upFaked(c, on("exec", runReal, atGate("slow")))
	start := startAtGate(c, b, "e", "slow", "exit:7")
	pid := readPid(c, filepath.Join(b.Bundle, "e.pid"))
	c.Await(5*time.Second, "the exec is dead and reaped", func() bool { return !procfs.Exists(pid) })
	open(c, b.Fake.Gate("slow"))
	c.Must(start.Await(10*time.Second), "Start")
	e := b.AwaitExit(5*time.Second, "e")
	if e.Exit.GetExitStatus() != 7 || int(e.Exit.GetPid()) != pid {
		c.Errorf("exit: pid %d status %d, want pid %d status 7", e.Exit.GetPid(), e.Exit.GetExitStatus(), pid)
	}
	stopped(c, b, "e", pid)
}

func earlyInitExit(c *harness.Case) {
	b := c.Fixture(harness.Options{
		Container: harness.Container{Args: []string{"exit:9"}},
		Fake:      []fakeruntime.Rule{on("start", runReal, atGate("slow"))},
	})
	c.Must(b.Create(), "Create")
	start := heldAt(c, b, "slow", "Start", starting(b, b.ID))
	b.Gone(5*time.Second, "init", b.InitPid)
	open(c, b.Fake.Gate("slow"))
	c.Must(start.Await(10*time.Second), "Start")
	b.AwaitStatus(5*time.Second, b.ID, 9)
	stopped(c, b, b.ID, b.InitPid)
}
