// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"time"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/launch"
	"containerd-shim.v1/integration/harness/wait"
)

var raceChecks = []Check{
	{ID: "F02", Name: "Kill of an exec whose runc is at work",
		Incident: "the Kill fails, the client takes the exec for gone, and it runs on",
		Asserts:  "the signal reaches the process once it is there, and the exec can be deleted",
		Run:      killDuringStart},
	{ID: "F09", Name: "init dies while runc start hangs",
		Incident: "a hook hangs; the exit comes late or never, and the pod cannot be deleted",
		Asserts:  "the exit is published and Delete answers within seconds",
		Run:      exitDuringHungStart},
	{ID: "F10", Name: "Delete of a dead container behind a runc update that hangs",
		Incident: "found by reading: the verb's lock is held for as long as runc hangs",
		Asserts:  "Delete answers within seconds",
		Run:      deleteBehindHungUpdate},
	{ID: "F15b", Name: "Delete whose answer nobody has heard",
		Incident: "CRI gives up a Delete after 10 s; State says NotFound then, nobody asks again, shim and bundle leak",
		Asserts:  "State says STOPPED, and Delete can be asked again for the same answer",
		Run:      unheardDelete},
	{ID: "F19", Name: "restore that fails",
		Incident: "found by reading: Kill says that the process was not created, which no client takes for its end; without a State none asks for Delete",
		Asserts:  "State says STOPPED, Kill says NotFound, and Delete cleans up",
		Run:      failedRestore},
	{ID: "F20", Name: "daemon that stalls after the reply to Start",
		Incident: "the exit overtakes the start; docker shows the container as running for ever",
		Asserts:  "no exit, of an exec or the container, is published before the daemon has asked for the State, whatever others ask; other exits pass",
		Run:      stalledAfterStart},
}

func killDuringStart(c *harness.Case) {
	b := upFaked(c, on("exec", atGate("slow"), fakeruntime.Step{Op: fakeruntime.Process, Name: "lives"}))
	start := startAtGate(c, b, "e", "slow")
	kill := client.Async("Kill", func() error { return b.Within(30*time.Second).Kill("e", 9, false) })
	// A shim whose Kill does not wait has answered by then.
	_ = wait.For(time.Second, "an answer to Kill", kill.Done)
	open(c, b.Fake.Gate("slow"))
	c.Must(start.Await(10*time.Second), "Start")
	c.Must(kill.Await(10*time.Second), "Kill")
	b.Gone(5*time.Second, "the exec that was killed", b.Fake.Spawned()[0])
	b.AwaitExit(10*time.Second, "e")
	c.Must(delProc(b, "e"), "DeleteProcess")
}

// bounded is how long a call may take that has to end something that hangs.
const bounded = 5 * time.Second

func exitDuringHungStart(c *harness.Case) {
	b := faked(c, on("start", atGate("hook")))
	c.Must(b.Create(), "Create")
	start := heldAt(c, b, "hook", "Start", starting(b, b.ID))
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	b.AwaitExit(bounded, b.ID)
	_, err := b.Within(bounded).Delete()
	c.Must(err, "Delete")
	_ = c.Prompt(start.Await(10 * time.Second)) // it has no container any more
}

func deleteBehindHungUpdate(c *harness.Case) {
	b := upFaked(c, on("update", atGate("hung")))
	update := heldAt(c, b, "hung", "Update", func() error { return b.Within(time.Minute).Update(updateRequest()) })
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	b.AwaitExit(10*time.Second, b.ID)
	_, err := b.Within(bounded).Delete()
	c.Must(err, "Delete")
	_ = c.Prompt(update.Await(10 * time.Second)) // it has no container any more
}

func unheardDelete(c *harness.Case) {
	b := up(c)
	b.Die()
	first, err := b.Delete()
	c.Must(err, "Delete")
	other := b.Dial(launch.Containerd1_7) // the daemon's next connection
	state, err := other.State(b.ID)
	c.Must(err, "State after a Delete that nobody heard")
	if got := state.GetStatus().String(); got != "STOPPED" {
		c.Errorf("State after a Delete that nobody heard: %s", got)
	}
	again, err := other.Delete()
	c.Must(err, "the second Delete")
	if again.GetExitStatus() != first.GetExitStatus() || again.GetPid() != first.GetPid() {
		c.Errorf("the second Delete: %v, the first: %v", again, first)
	}
}

func failedRestore(c *harness.Case) {
	b := faked(c, on("restore", logs("criu failed"), exits(1)))
	req := b.CreateRequest(harness.IO{})
	req.Checkpoint = b.Path("image")
	_, err := b.CreateTask(req)
	c.Must(err, "Create from a checkpoint")
	if _, err := b.Client.Start(b.ID); c.Prompt(err) == nil {
		c.Fatalf("Start succeeded though the restore failed")
	}
	if s, err := b.State(b.ID); err != nil || s.GetStatus().String() != "STOPPED" {
		c.Errorf("State: %v, %v, want it STOPPED", s, err)
	}
	wantCode(c, "Kill", b.Kill(b.ID, 9, false), notFound)
	c.Must(del(b, ""), "Delete")
}

func stalledAfterStart(c *harness.Case) {
	b := up(c)
	c.Must(b.Exec("e", harness.IO{}, "exit:7"), "Exec")
	heldUntilAsked(c, b, "e", func() {
		_ = c.Prompt(b.ResizePty("e", 80, 25)) // of a process that has ended
		b.MustExec("f", harness.IO{}, "exit:0")
		b.AwaitExit(5*time.Second, "f")
	})
	// What docker shows as running for ever is the container. No exec holds its exit up here.
	own := c.Fixture(harness.Options{Container: harness.Container{Args: []string{"exit:7"}}})
	c.Must(own.Create(), "Create")
	heldUntilAsked(c, own, own.ID, func() {})
}

// heldUntilAsked starts a process that ends at once with status 7, and does other things
// while the daemon has not asked for its State.
func heldUntilAsked(c *harness.Case, b *harness.Fixture, id string, meanwhile func()) {
	_, err := b.StartOnly(id)
	c.Must(err, "Start")
	w, err := b.Wait(id)
	c.Must(err, "Wait")
	if w.GetExitStatus() != 7 {
		c.Errorf("Wait: status %d, want 7", w.GetExitStatus())
	}
	other := b.Dial(launch.Containerd1_7)
	_, err = other.State(id)
	c.Must(err, "State, asked by another client")
	meanwhile()
	c.Never(2*time.Second, "the exit of "+id+" is published before its start", func() bool { return len(b.Daemon.ExitsOf(id)) > 0 })
	c.Must(stateOf(b, id), "State")
	b.AwaitExit(5*time.Second, id)
}

func updateRequest() *task.UpdateTaskRequest {
	return &task.UpdateTaskRequest{Resources: noResources}
}
