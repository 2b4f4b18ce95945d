// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/wait"
)

// drainBound bounds the wait of a Delete for output. Upstream's latest releases wait
// for 10 s.
const drainBound = 15 * time.Second

var drainChecks = []Check{
	{ID: "B12", Name: "exec's child keeps stdout open",
		Incident: "containerd #2438, #2823, #3286: `sh -c 'daemon & echo ok'` hangs at its end",
		Asserts:  "DeleteProcess returns in bounded time, and State answers meanwhile",
		Run:      execChildHoldsStdout},
	{ID: "B13", Name: "slow reader of the output",
		Incident: "containerd #12289, #3286, #10094: the end of a large output is missing",
		Asserts:  "all 120000 bytes arrive when the client reads only after DeleteProcess has answered",
		Run:      slowReader},
	{ID: "B14", Name: "Delete's deadline passes while output is held open",
		Incident: "containerd #13377, #13378: bundle, cgroup and mount of a deleted container stay",
		Asserts:  "runc delete is run all the same",
		Run:      drainEatsDeadline},
	{ID: "B15", Name: "Delete repeated after the first caller gave up",
		Incident: "containerd #9309, #8931, #11392: the task can never be removed, the shim leaks",
		Asserts:  "the second Delete returns the exit status again, or NotFound",
		Run:      deleteTwice},
}

func execChildHoldsStdout(c *harness.Case) {
	b := up(c)
	out, errs := b.Stream("out").Read(), b.Stream("err").Read()
	b.MustExec("e", harness.IO{Stdout: out.Path, Stderr: errs.Path}, "echo:ok", "holdout:10m", "exit:0")
	b.AwaitExit(5*time.Second, "e")
	del := client.Async("DeleteProcess", func() error { _, err := b.Within(time.Minute).DeleteProcess("e"); return err })
	_ = wait.For(500*time.Millisecond, "", del.Done) // until it waits for the output
	_ = wait.For(drainBound, "", func() bool {
		answers(c, b, b.ID)
		return del.Done()
	})
	c.Must(del.Await(drainBound), "DeleteProcess")
	if out.Text() != "ok\n" {
		c.Errorf("stdout %q, want %q", out.Text(), "ok\n")
	}
}

func slowReader(c *harness.Case) {
	const n = 120000 // less than a pipe and a FIFO hold together
	b := up(c)
	out, errs := b.Stream("out").OpenOnly(), b.Stream("err").Read()
	b.MustExec("e", harness.IO{Stdout: out.Path, Stderr: errs.Path}, "print:120000", "exit:0")
	b.AwaitExit(5*time.Second, "e")
	del := client.Async("DeleteProcess", func() error { _, err := b.Within(time.Minute).DeleteProcess("e"); return err })
	// A shim may also wait for the reader; then reading lets it go on.
	waited := del.Await(drainBound) != nil
	out.Read()
	if waited {
		c.Must(del.Await(drainBound), "DeleteProcess")
	}
	c.Await(10*time.Second, "the end of the output", out.Ended)
	if err := out.Matches(n); err != nil {
		c.Errorf("stdout: %v", err)
	}
}

func drainEatsDeadline(c *harness.Case) {
	// The child that holds the output belongs to runc, not to the
	// container's cgroup, so that it survives whatever kills the container.
	b := c.Fixture(hostPid(on("create", fakeruntime.Step{Op: fakeruntime.Hold}, runReal)))
	out, errs := b.Stream("out").Read(), b.Stream("err").Read()
	b.UpWith(harness.IO{Stdout: out.Path, Stderr: errs.Path})
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	b.AwaitExit(5*time.Second, b.ID)
	_, err := b.Within(5 * time.Second).WithDeadline(1500 * time.Millisecond).Delete()
	c.Logf("first Delete: %v", err)
	c.Await(12*time.Second, "runc has deleted the container", func() bool { return !b.RuncHas() })
}

func deleteTwice(c *harness.Case) {
	b := upFaked(c, gated("delete", "", "slow"))
	b.Die()
	first := heldAt(c, b, "slow", "first Delete", func() error {
		_, err := b.Within(time.Minute).Delete()
		return err
	})
	open(c, b.Fake.Gate("slow"))
	// The answer counts as lost: the client has given up.
	_ = c.Prompt(first.Await(10 * time.Second))
	second, err := b.Delete()
	if err == nil {
		sameExit(c, second, 137)
		return
	}
	if code(err) != notFound {
		c.Errorf("second Delete: %v, want the exit again or NotFound", c.Prompt(err))
	}
}
