// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/launch"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/internal/stackdump"
)

var signalChecks = []Check{
	{ID: "B29", Name: "nobody reads the log FIFO",
		Incident: "containerd #4509, #4546, #3275: every container goes deaf after some hours",
		Asserts:  "with full log FIFOs and three stack dumps in debug mode exits are still published and State answers",
		Run:      logFifoFull},
	{ID: "B30", Name: "SIGTERM",
		Incident: "moby #41831, containerd #5828: the container runs on without a shim",
		Asserts:  "the shim exits with 0 within 10 s, the container is dead and gone from runc",
		Run:      with(sigterm, false)},
	{ID: "B30b", Name: "SIGTERM while a Wait is open",
		Incident: "moby #41831: the shim hangs for ever",
		Asserts:  "the same, and the Wait ends",
		Run:      with(sigterm, true)},
	{ID: "B31", Name: "SIGHUP, SIGQUIT, SIGUSR2, SIGALRM, SIGPIPE",
		Incident: "containerd #13849: an operator's SIGHUP took the node down",
		Asserts:  "the shim lives and answers after each",
		Run:      harmlessSignals},
	{ID: "B31b", Name: "SIGUSR1 with no descriptor, then no directory",
		Incident: "this project's shim at EMFILE, and with /run full: no stacks, just when they are wanted",
		Asserts:  "whole stacks each time, in a file or in the log; the shim works on afterwards",
		Run:      stacksAnyhow},
}

func stacksAnyhow(c *harness.Case) {
	b := upWith(c, harness.Options{Debug: true})
	whole := func(when string) {
		text, err := b.Shim.Stacks(5 * time.Second)
		c.Must(err, "SIGUSR1 "+when)
		if d, err := stackdump.Parse([]byte(text)); err != nil {
			c.Errorf("SIGUSR1 %s: %v in %.200q", when, err, text)
		} else if !d.Complete {
			c.Errorf("SIGUSR1 %s: %s", when, d.Why)
		}
	}
	var before unix.Rlimit
	c.Need(unix.Prlimit(b.Shim.Pid, unix.RLIMIT_NOFILE, nil, &before), "read the limit")
	free := 0 // the lowest descriptor that is not open in the shim
	for {
		if _, err := os.Readlink(procfs.File(b.Shim.Pid, "fd/"+strconv.Itoa(free))); err != nil {
			break
		}
		free++
	}
	c.Need(unix.Prlimit(b.Shim.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: before.Max}, nil), "lower the limit")
	whole("without a descriptor")
	c.Need(unix.Prlimit(b.Shim.Pid, unix.RLIMIT_NOFILE, &before, nil), "raise the limit")
	// launch.PatchedStacks is left as it is: other shims of the host write there, too.
	for _, dir := range []string{b.Path("stacks"), b.Workdir} { // the sweep unmounts
		c.Need(os.MkdirAll(dir, 0o700), "make directory")
		c.Need(unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, ""), "mount over "+dir)
	}
	whole("with nowhere to write")
	b.MustExec("e", harness.IO{}, "exit:0")
	b.AwaitExit(5*time.Second, "e")
}

func logFifoFull(c *harness.Case) {
	g := launch.Containerd1_4_1
	b := upWith(c, harness.Options{Generation: &g, Debug: true, Undrained: true})
	c.Need(b.Shim.FillLogs(), "fill the log FIFOs")
	for range 3 {
		c.Need(unix.Kill(b.Shim.Pid, unix.SIGUSR1), "signal the shim")
		c.Await(5*time.Second, "SIGUSR1 is delivered", func() bool { return !procfs.Pending(b.Shim.Pid, unix.SIGUSR1) })
	}
	// Give a shim that blocks in the write time to get there.
	elapse(500 * time.Millisecond)
	b.MustExec("e", harness.IO{}, "exit:0")
	b.AwaitExit(10*time.Second, "e")
	answers(c, b, b.ID)
}

func sigterm(c *harness.Case, waiting bool) {
	b := up(c)
	var pending *client.Waiting
	if waiting {
		pending = b.BeginWait(b.ID)
	}
	c.Need(unix.Kill(b.Shim.Pid, unix.SIGTERM), "signal the shim")
	status, err := b.Shim.ExitCode(10 * time.Second)
	c.Must(err, "SIGTERM")
	if status != 0 {
		c.Errorf("exit status %d, want 0", status)
	}
	b.Gone(5*time.Second, "init", b.InitPid)
	if b.RuncHas() {
		c.Errorf("runc still has the container")
	}
	if waiting {
		_ = c.Prompt(pending.Await(5 * time.Second)) // answered or closed
	}
}

func harmlessSignals(c *harness.Case) {
	b := up(c)
	for _, s := range []unix.Signal{unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE} {
		c.Need(unix.Kill(b.Shim.Pid, s), "signal the shim")
		c.Await(5*time.Second, unix.SignalName(s)+" is delivered", func() bool { return !procfs.Pending(b.Shim.Pid, s) })
		// At SIGQUIT the Go runtime prints stacks before it exits.
		if wait.For(300*time.Millisecond, "", func() bool { return !procfs.Alive(b.Shim.Pid) }) == nil {
			c.Fatalf("%s ends the shim", unix.SignalName(s))
		}
		lives(c, b)
	}
	answers(c, b, b.ID)
}
