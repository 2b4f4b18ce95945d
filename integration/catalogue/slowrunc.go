// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
)

var slowRuncChecks = []Check{
	{ID: "B06", Name: "slow runc create",
		Incident: "containerd #2743, #9104, #13483: task State times out and the new container is torn down",
		Asserts:  "State and ShimInfo answer at once (State also with NotFound) while runc create runs",
		Run:      slowCreate},
	{ID: "B06b", Name: "slow runc exec",
		Incident: "containerd #2589, #2624: docker ps hangs because one exec is slow",
		Asserts:  "State of init and a second exec answer while runc exec of a first one runs",
		Run:      slowExec},
	{ID: "B07", Name: "exit and ListPids while an exec starts",
		Incident: "containerd #5364, #8617, #10058: State, Wait and ListPids stall as long as somebody's exec starts",
		Asserts:  "after another exec's exit, State, Wait and ListPids answer while runc exec runs",
		Run:      lookupDuringExec},
	{ID: "B08", Name: "hung runc pause",
		Incident: "containerd #4177, moby #40817, #36010: the container cannot be killed any more",
		Asserts:  "State answers and Kill ends the container while runc pause hangs",
		Run:      hungPause},
}

func slowCreate(c *harness.Case) {
	b := faked(c, gated("create", "", "slow"))
	create := heldAt(c, b, "slow", "Create", func() error {
		_, err := b.Within(time.Minute).CreateTask(b.CreateRequest(harness.IO{}))
		return err
	})
	_, err := b.Within(prompt).ShimInfo()
	c.Must(err, "ShimInfo")
	answersOrNotFound(c, b, b.ID)
	open(c, b.Fake.Gate("slow"))
	c.Must(create.Await(10*time.Second), "Create")
}

func slowExec(c *harness.Case) {
	b := upFaked(c, gated("exec", "/slow.pid", "slow"))
	slow := startAtGate(c, b, "slow", "slow")
	answers(c, b, b.ID)
	answers(c, b, "slow")
	c.Must(b.Exec("other", harness.IO{}, "exit:0"), "Exec of other")
	_, err := b.Within(5 * time.Second).Start("other")
	c.Must(err, "Start of other")
	b.AwaitExit(5*time.Second, "other")
	open(c, b.Fake.Gate("slow"))
	c.Must(slow.Await(10*time.Second), "Start of the slow exec")
}

func lookupDuringExec(c *harness.Case) {
	b := upWith(c, hostPid(orphans(1), gated("exec", "/slow.pid", "slow")))
	stranger := brood(c, b, 1)
	pid := b.MustExec("other", harness.IO{}, "sleep")
	slow := startAtGate(c, b, "slow", "slow")
	// Upstream compares an exit that belongs to no process with every process, and so,
	// whatever the order, with the slow one.
	killEach(stranger)
	reaped(c, stranger)
	c.Need(unix.Kill(pid, unix.SIGKILL), "kill other")
	c.Must(waitFor(b, "other"), "Wait of other")
	answers(c, b, b.ID)
	for range 5 { // upstream asks the processes in the order of a map
		_, err := b.Within(prompt).ListPids(b.ID)
		c.Must(err, "ListPids")
	}
	open(c, b.Fake.Gate("slow"))
	c.Must(slow.Await(10*time.Second), "Start of the slow exec")
}

func hungPause(c *harness.Case) {
	b := upFaked(c, gated("pause", "", "hang"))
	pause := heldAt(c, b, "hang", "Pause", func() error { return b.Within(time.Minute).Pause() })
	answers(c, b, b.ID)
	c.Must(b.Within(5*time.Second).Kill(b.ID, 9, false), "Kill")
	b.Gone(5*time.Second, "init", b.InitPid)
	b.AwaitExit(5*time.Second, b.ID)
	open(c, b.Fake.Gate("hang"))
	_ = c.Prompt(pause.Await(10 * time.Second)) // it may fail: its container is dead
}
