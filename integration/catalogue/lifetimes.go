// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

var lifetimeChecks = []Check{
	{ID: "B34", Name: "Kill of an exec that was not started",
		Incident: "containerd #3366: it reports success",
		Asserts:  "FailedPrecondition, and the exec can still be started",
		Run:      killUnstarted},
	{ID: "B42", Name: "Wait of an exec that is deleted unstarted",
		Incident: "no public thread: the Wait never returns",
		Asserts:  "Wait returns when the exec is deleted",
		Run:      with(waitThenDelete, false)},
	{ID: "B42b", Name: "Wait of an exec whose start failed, then deleted",
		Incident: "no public thread: the same after a failed Start",
		Asserts:  "Wait returns",
		Run:      with(waitThenDelete, true)},
	{ID: "B43", Name: "Delete of a created container",
		Incident: "no public thread: Wait hangs, the exit event carries the year 1",
		Asserts:  "Wait, Delete and exactly one TaskExit say 137 at a real time",
		Run:      deleteCreated},
	{ID: "B44", Name: "exit time while the rest is killed",
		Incident: "no public thread: ExitedAt is the time of bookkeeping",
		Asserts:  "ExitedAt is within 0.5 s of the death although runc kill --all takes 2 s more",
		Run:      exitTime},
	{ID: "B45", Name: "two Execs with one id at the same time",
		Incident: "containerd #2820, #3365: both succeed, one hangs at its end",
		Asserts:  "they do not both succeed, also while runc pause hangs; the second is AlreadyExists",
		Run:      duplicateExec},
	{ID: "B46", Name: "Kill --all of a container whose init is dead",
		Incident: "containerd #2854: leftovers of a shared pid namespace survive",
		Asserts:  "what is left in the container is killed",
		Run:      killStopped},
}

func killUnstarted(c *harness.Case) {
	b := up(c)
	c.Must(b.Exec("e", harness.IO{}, "exit:3"), "Exec")
	wantCode(c, "Kill of an exec that was not started", b.Kill("e", 9, false), precondition)
	b.MustStart("e")
	b.AwaitStatus(5*time.Second, "e", 3)
}

func waitThenDelete(c *harness.Case, failed bool) {
	b := upFaked(c, failing("", "no such file"))
	c.Must(b.Exec("e", harness.IO{}, "exit:0"), "Exec")
	if failed {
		if _, err := b.Client.Start("e"); c.Prompt(err) == nil {
			c.Errorf("Start succeeded although runc failed")
		}
	}
	// The shim has read each Wait, but the goroutine that serves it may still come after
	// the deletion, and then its answer proves nothing: not all of ten do.
	var waits []*client.Waiting
	for range 10 {
		waits = append(waits, b.BeginWait("e"))
	}
	c.Must(delProc(b, "e"), "DeleteProcess")
	for _, pending := range waits {
		if err := pending.Await(5 * time.Second); c.Prompt(err) != nil {
			c.Logf("Wait: %v", err) // an answer too
		}
	}
	lives(c, b) // else it was the connection's end
}

func deleteCreated(c *harness.Case) {
	b := c.Fixture(harness.Options{})
	c.Must(b.Create(), "Create")
	pending := b.BeginWait(b.ID)
	deleted, err := b.Delete()
	c.Must(err, "Delete")
	sameExit(c, deleted, 137)
	c.Must(pending.Await(5*time.Second), "Wait")
	waited := &pending.Reply
	if waited.GetExitStatus() != 137 || !waited.GetExitedAt().AsTime().Equal(deleted.GetExitedAt().AsTime()) {
		c.Errorf("Wait: status %d at %v, Delete said %d at %v", waited.GetExitStatus(), waited.GetExitedAt().AsTime(), deleted.GetExitStatus(), deleted.GetExitedAt().AsTime())
	}
	e := b.AwaitExit(5*time.Second, b.ID)
	if e.Exit.GetExitStatus() != 137 || e.Exit.GetExitedAt().GetSeconds() <= 0 {
		c.Errorf("TaskExit: status %d at %v, want 137 at a real time", e.Exit.GetExitStatus(), e.Exit.GetExitedAt().AsTime())
	}
	c.Never(500*time.Millisecond, "a second TaskExit", func() bool { return len(b.Daemon.ExitsOf(b.ID)) > 1 })
}

func exitTime(c *harness.Case) {
	b := upWith(c, hostPid(gated("kill", "", "kill")))
	before := time.Now()
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	b.Gone(5*time.Second, "init", b.InitPid)
	after := time.Now()
	c.Logf("runc kill: %v", wait.For(2*time.Second, "at the gate", func() bool { return b.Fake.Arrived("kill") > 0 }))
	elapse(2 * time.Second)
	open(c, b.Fake.Gate("kill"))
	e := b.AwaitExit(5*time.Second, b.ID)
	c.Must(waits(b, b.ID), "Wait")
	s, err := b.State(b.ID)
	c.Must(err, "State")
	const slack = 500 * time.Millisecond
	for what, at := range map[string]time.Time{"TaskExit": e.Exit.GetExitedAt().AsTime(), "State": s.GetExitedAt().AsTime()} {
		if at.Before(before.Add(-slack)) || at.After(after.Add(slack)) {
			c.Errorf("%s: exited %v after the death", what, at.Sub(after).Round(time.Millisecond))
		}
	}
}

func duplicateExec(c *harness.Case) {
	b := upFaked(c, on("pause", atGate("slow"), logs("no"), exits(1)))
	pause := heldAt(c, b, "slow", "Pause", func() error { return b.Within(time.Minute).Pause() })
	first, second := execTwice(b)
	// In a shim where both wait for the pause, give them time to get there.
	_ = wait.For(time.Second, "", func() bool { return first.Done() && second.Done() })
	open(c, b.Fake.Gate("slow"))
	_ = c.Prompt(pause.Await(10 * time.Second)) // it fails
	if one := onlyOne(c, first, second); one {
		return
	}
	// A shim may refuse both while the container is pausing.
	first, second = execTwice(b)
	if !onlyOne(c, first, second) {
		c.Errorf("both Execs are refused, also when no pause is under way")
	}
}

func execTwice(b *harness.Fixture) (first, second *client.Pending) {
	exec := func() error { return b.Exec("e", harness.IO{}, "exit:0") }
	return client.Async("Exec", exec), client.Async("Exec", exec)
}

// onlyOne reports whether one of two Execs succeeded; the other has to be
// AlreadyExists. Both may fail, but not both succeed.
func onlyOne(c *harness.Case, first, second *client.Pending) bool {
	one, two := c.Prompt(first.Await(10*time.Second)), c.Prompt(second.Await(10*time.Second))
	switch {
	case one == nil && two == nil:
		c.Fatalf("two Execs with one id succeeded")
	case one == nil:
		wantCode(c, "the second Exec", two, exists)
	case two == nil:
		wantCode(c, "the second Exec", one, exists)
	default:
		wantCode(c, "Exec while pausing", one, precondition)
		wantCode(c, "Exec while pausing", two, precondition)
		return false
	}
	return true
}

func killStopped(c *harness.Case) {
	b := c.Fixture(harness.Options{
		Container: harness.Container{HostPid: true, Args: []string{"children:1", "sleep"}},
		Fake:      []fakeruntime.Rule{onOnce("kill", logs("device or resource busy"), exits(1))},
	})
	b.Up()
	child := onlyChild(c, b.InitPid)
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	b.AwaitExit(20*time.Second, b.ID)
	if !procfs.Alive(child) {
		c.Logf("the shim has killed the rest without runc's help")
	}
	if err := c.Prompt(b.Kill(b.ID, 9, true)); err != nil {
		c.Logf("Kill: %v", err)
	}
	b.Gone(5*time.Second, "what was left of the container", child)
}
