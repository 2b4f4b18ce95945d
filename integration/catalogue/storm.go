// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/wait"
)

// stormSize is how many orphans die at once: several times the 32 slots of
// upstream's exit channels.
const stormSize = 200

var stormChecks = []Check{
	{ID: "B01", Load: Heavy, Name: "exit storm while an exec starts",
		Incident: "containerd #2709, #3572, moby #40145: docker ps, inspect and stop hang until the shim is killed by hand",
		Asserts:  "200 children die while a runc exec is still running: State answers in 2 s, the exec starts, no zombie stays",
		Limit:    90 * time.Second,
		Run:      stormDuringExec},
	{ID: "B02", Load: Heavy, Name: "exit storm delays other exits",
		Incident: "containerd #12678, #13539, #13653: exits arrive minutes late or in the wrong order",
		Asserts:  "64 children die while a runc exec hangs: the exits of three other execs arrive within 5 s, in the order of death",
		Limit:    90 * time.Second,
		Run:      stormOrder},
	{ID: "B03", Load: Heavy, Name: "exit storm while the init's rest is killed",
		Incident: "containerd #13814, #13849: TaskExit of a pod with a shared pid namespace comes minutes late",
		Asserts:  "200 children die during `runc kill --all` after the init's death: all are reaped meanwhile, and the TaskExit arrives within 5 s of that runc's end",
		Limit:    90 * time.Second,
		Run:      stormDuringKillAll},
}

func stormDuringExec(c *harness.Case) {
	b := upWith(c, hostPid(orphans(stormSize), gated("exec", "/slow.pid", "slow")))
	pids := brood(c, b, stormSize)
	slow := startAtGate(c, b, "slow", "slow")
	killEach(pids)
	_, err := b.Within(prompt).State(b.ID)
	c.Must(err, "State of init during the storm")
	reaped(c, pids)
	open(c, b.Fake.Gate("slow"))
	c.Must(slow.Await(5*time.Second), "Start of the slow exec")
	_, err = b.Within(prompt).State("slow")
	c.Must(err, "State of the slow exec")
	noZombies(c, b, 5*time.Second)
}

func stormOrder(c *harness.Case) {
	const n = 64
	b := upWith(c, hostPid(orphans(n), gated("exec", "/slow.pid", "slow")))
	pids := brood(c, b, n)
	names := []string{"one", "two", "three"}
	var victims []int
	for _, id := range names {
		victims = append(victims, b.MustExec(id, harness.IO{}, "sleep"))
	}
	slow := startAtGate(c, b, "slow", "slow")
	killEach(pids)
	for _, pid := range victims {
		_ = unix.Kill(pid, unix.SIGKILL)
		// Of two zombies at the same time nobody can tell which died first.
		reaped(c, []int{pid})
	}
	for _, id := range names {
		b.AwaitExit(5*time.Second, id)
	}
	var order []string
	for _, e := range b.Daemon.Events() {
		order = append(order, e.Exit.GetID())
	}
	if fmt.Sprint(order) != fmt.Sprint(names) {
		c.Errorf("exits published in the order %v, want %v", order, names)
	}
	open(c, b.Fake.Gate("slow"))
	c.Must(slow.Await(5*time.Second), "Start of the slow exec")
}

func stormDuringKillAll(c *harness.Case) {
	b := upWith(c, hostPid(orphans(stormSize), gated("kill", "", "kill")))
	pids := brood(c, b, stormSize)
	_ = unix.Kill(b.InitPid, unix.SIGKILL)
	// A shim that kills the rest by other means is not at the gate.
	c.Logf("runc kill: %v", wait.For(2*time.Second, "at the gate", func() bool { return b.Fake.Arrived("kill") > 0 }))
	killEach(pids)
	// A v2 shim holds init's exit until the container's execs have ended. This one is in no
	// cgroup, so that runc does not end it.
	open(c, b.Fake.Gate("brood-lives"))
	// Only then is runc's own exit certain to come after theirs: wait4(2) returns the
	// children of the calling thread first.
	reaped(c, pids)
	open(c, b.Fake.Gate("kill"))
	b.AwaitExit(5*time.Second, b.ID)
	noZombies(c, b, 5*time.Second)
}
