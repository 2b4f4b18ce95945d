// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"path/filepath"
	"time"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/launch"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

var abandonedChecks = []Check{
	{ID: "B22", Name: "client's deadline passes during runc create",
		Incident: "containerd #11674, #6860, #11037: a container nobody can delete, after kubelet cancelled",
		Asserts:  "the container is either known and can be deleted, or gone from runc",
		Run:      with(abandonedCreate, false)},
	{ID: "B22b", Name: "client disconnects during runc create",
		Incident: "containerd #11674, #10437: the same after a daemon restart",
		Asserts:  "the container is either known and can be deleted, or gone from runc",
		Run:      with(abandonedCreate, true)},
	{ID: "B23", Name: "Create fails after runc create succeeded",
		Incident: "containerd #11674: a living container that the shim denies",
		Asserts:  "without a pid file Create fails, runc has no container, no process is left",
		Run:      lateCreateFailure},
	{ID: "B24", Name: "Start of an exec fails after runc exec succeeded",
		Incident: "same family as containerd #11674: a process that nobody can kill or wait for",
		Asserts:  "without a pid file Start fails, the process is gone, Wait returns",
		Run:      lateExecFailure},
	{ID: "B25", Name: "Create with FIFOs that nobody reads",
		Incident: "containerd #2877, moby #38064: the client dies before it attaches, the shim hangs",
		Asserts:  "Create answers within 5 s; if it fails, runc has no container and the shim lives",
		Run:      createWithoutReader},
	{ID: "B25b", Name: "exec with FIFOs that nobody reads",
		Incident: "containerd #2877: one exec without a client stalls every call for 30 s",
		Asserts:  "State answers at once, Start within 5 s; if it fails, the process is gone",
		Run:      execWithoutReader},
}

func abandonedCreate(c *harness.Case, disconnect bool) {
	b := faked(c, on("create", runReal, atGate("slow")))
	caller, within := b.Dial(launch.Containerd1_7), 10*time.Second
	if !disconnect {
		within = 3 * time.Second
		caller = caller.WithDeadline(within)
	}
	create := client.Async("Create", func() error {
		_, err := caller.CreateTask(b.CreateRequest(harness.IO{}))
		return err
	})
	c.Await(within, "runc create runs", func() bool { return b.Fake.Arrived("slow") > 0 })
	if disconnect {
		c.Need(caller.Close(), "disconnect")
	}
	c.Logf("Create: %v", create.Await(15*time.Second))
	pid := readPid(c, filepath.Join(b.Bundle, "init.pid"))
	// A shim that kills its runc because of this does so at once.
	runc := b.Fake.Waiting("slow")[0]
	if wait.For(time.Second, "", func() bool { return !procfs.Alive(runc) }) == nil {
		c.Logf("runc create was killed")
	}
	open(c, b.Fake.Gate("slow"))
	settled := func() bool {
		if !b.RuncHas() && !procfs.Alive(pid) {
			return true
		}
		s, err := b.Within(prompt).State(b.ID)
		return err == nil && s.GetStatus().String() == "CREATED"
	}
	c.Await(10*time.Second, "the container is known as CREATED, or gone (it is with runc, and the shim denies it)", settled)
	if !b.RuncHas() {
		return
	}
	c.Must(del(b, ""), "Delete of the created container")
	c.Await(5*time.Second, "runc has deleted the container", func() bool { return !b.RuncHas() })
	b.Gone(5*time.Second, "init", pid)
}

func lateCreateFailure(c *harness.Case) {
	b := faked(c, on("create", runReal, atGate("look"), fakeruntime.Step{Op: fakeruntime.PidFile}))
	create := heldAt(c, b, "look", "Create", func() error { return b.Create() })
	pid := readPid(c, filepath.Join(b.Bundle, "init.pid"))
	open(c, b.Fake.Gate("look"))
	if c.Prompt(create.Await(10*time.Second)) == nil {
		c.Errorf("Create succeeded without a pid file")
	}
	c.Await(5*time.Second, "runc has no container", func() bool { return !b.RuncHas() })
	b.Gone(5*time.Second, "init", pid)
	lives(c, b) // Create fails with the connection, too
}

func lateExecFailure(c *harness.Case) {
	b := upFaked(c, on("exec", runReal, atGate("look"), fakeruntime.Step{Op: fakeruntime.PidFile}))
	start := startAtGate(c, b, "e", "look", "sleep")
	pid := readPid(c, filepath.Join(b.Bundle, "e.pid"))
	open(c, b.Fake.Gate("look"))
	if c.Prompt(start.Await(10*time.Second)) == nil {
		c.Errorf("Start succeeded without a pid file")
	}
	b.Gone(5*time.Second, "the exec's process", pid)
	c.Must(waitFor(b, "e"), "Wait")
}

func createWithoutReader(c *harness.Case) {
	b := c.Fixture(harness.Options{})
	out, errs := b.Stream("out"), b.Stream("err")
	_, err := b.Within(5 * time.Second).CreateTask(b.CreateRequest(harness.IO{Stdout: out.Path, Stderr: errs.Path}))
	if c.Prompt(err) == nil {
		return
	}
	if b.RuncHas() {
		c.Errorf("Create failed (%v) and left its container with runc", err)
	}
	_, err = b.Within(prompt).ShimInfo() // Create may have failed because the connection broke
	c.Must(err, "ShimInfo after it")
}

func execWithoutReader(c *harness.Case) {
	b := upFaked(c, onMatch("exec", "/e.pid", runReal, atGate("look")))
	out, errs := b.Stream("out"), b.Stream("err")
	c.Must(b.Exec("e", harness.IO{Stdout: out.Path, Stderr: errs.Path}, "sleep"), "Exec")
	start := heldAt(c, b, "look", "Start", func() error {
		_, err := b.Within(time.Minute).Start("e")
		return err
	})
	pid := readPid(c, filepath.Join(b.Bundle, "e.pid"))
	open(c, b.Fake.Gate("look"))
	// Meanwhile the exit of another exec must get through.
	b.MustExec("other", harness.IO{}, "exit:0")
	answers(c, b, b.ID)
	b.AwaitExit(5*time.Second, "other")
	if err := c.Prompt(start.Await(5 * time.Second)); err != nil {
		c.Logf("Start: %v", err)
		b.Gone(5*time.Second, "the process of the failed exec", pid)
	}
}
