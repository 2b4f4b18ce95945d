// SPDX-License-Identifier: Apache-2.0

package inplace_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/suite"
)

// TestPendingWaits are answered by the program that comes: of execs, and of init.
func TestPendingWaits(t *testing.T) {
	run(t, "waits", func(c *harness.Case, b *harness.Fixture) {
		ids := []string{"a", "b", "c"}
		var waits []func() error
		for i, id := range ids {
			b.MustExec(id, harness.IO{}, "term:"+string(rune('1'+i)), "sleep")
			w := b.BeginWait(id)
			waits = append(waits, func() error { return w.Await(soon) })
			defer func() {
				if got := w.Reply.GetExitStatus(); got != uint32(1+i) {
					c.Errorf("Wait of %s: status %d, want %d", id, got, 1+i)
				}
			}()
		}
		init := b.BeginWait(b.ID)
		swap(c, b)
		swap(c, b)
		for i, id := range ids {
			c.Await(soon, "it handles SIGTERM", func() bool { return b.Kill(id, 15, false) == nil })
			c.Must(waits[i](), "Wait of "+id)
			_, err := b.DeleteProcess(id)
			c.Must(err, "DeleteProcess")
		}
		ends(c, b)
		c.Must(init.Await(soon), "Wait of init")
		if init.Reply.GetExitStatus() != 137 {
			c.Errorf("Wait of init: %v", &init.Reply)
		}
	})
}

// TestParentDeathSignal: execve(2) ends every thread but the one that calls it, and the kernel
// tells the children of a thread of its end. Those of the container have the shim's first
// thread as their parent: an exchange from another one killed what had asked for that.
func TestParentDeathSignal(t *testing.T) {
	suite.Run(t, "pdeathsig", limit, func(c *harness.Case) {
		b := c.Fixture(harness.Options{Container: harness.Container{Args: []string{"pdeathsig:9", "touch:/init", "sleep"}}})
		b.Up()
		gate := b.Gate("go") // once runc, the parent before, has ended
		pid := b.MustExec("e", harness.IO{}, "gate:/go", "pdeathsig:9", "touch:/exec", "sleep")
		c.Need(gate.Open(), "open the gate")
		for _, name := range []string{"init", "exec"} {
			c.Await(soon, name+" has asked for the signal", func() bool {
				_, err := os.Stat(filepath.Join(b.Bundle, "rootfs", name))
				return err == nil
			})
		}
		for range 2 {
			swap(c, b)
			for _, p := range []int{b.InitPid, pid} {
				if !procfs.Alive(p) {
					c.Fatalf("process %d of the container has ended with the exchange", p)
				}
			}
		}
		c.Must(b.Kill("e", 9, false), "Kill")
		b.AwaitStatus(soon, "e", 137)
		ends(c, b)
	})
}

// TestExitsNobodyTook: an exit that was recorded, and an event that the daemon has
// not taken, are told once the daemon is back, in order, and once.
func TestExitsNobodyTook(t *testing.T) {
	run(t, "events", func(c *harness.Case, b *harness.Fixture) {
		b.Daemon.Crash()
		for _, id := range []string{"one", "two"} {
			b.MustExec(id, harness.IO{}, "exit:4")
			_, err := b.Wait(id)
			c.Must(err, "Wait")
		}
		swap(c, b)
		b.MustExec("three", harness.IO{}, "exit:4")
		_, err := b.Wait("three")
		c.Must(err, "Wait")
		c.Must(b.Kill(b.ID, 9, true), "Kill")
		_, err = b.Wait(b.ID)
		c.Must(err, "Wait")
		swap(c, b)
		c.Need(b.Daemon.Restart(), "restart fake daemon")
		b.AwaitStatus(soon, b.ID, 137)
		var got []string
		for _, e := range b.Daemon.Events() {
			got = append(got, e.Exit.GetID())
		}
		if want := "one two three " + b.ID; strings.Join(got, " ") != want {
			c.Errorf("exits %v, want %s", got, want)
		}
		for range 2 { // the answer to Delete is kept, too
			d, err := b.Delete()
			c.Must(err, "Delete")
			if d.GetExitStatus() != 137 {
				c.Errorf("Delete: %v", d)
			}
			swap(c, b)
		}
	})
}

// TestStreams are copied on: what was read and not written is not lost, an output
// that ended waits for its reader, files and loggers go on, the input stays open.
func TestStreams(t *testing.T) {
	run(t, "streams", func(c *harness.Case, b *harness.Fixture) {
		const many = 1000000
		gate := b.Gate("go")
		full := b.Stream("full").OpenOnly()
		unread := b.Stream("unread")
		in, echo := b.Stream("in"), b.Stream("echo").Read()
		tty := b.Stream("tty").Read()
		file := b.Path("log")
		b.MustExec("full", harness.IO{Stdout: full.Path}, "print:1000000")
		b.MustExec("unread", harness.IO{Stdout: unread.Path}, "print:1000", "exit:3")
		b.MustExec("cat", harness.IO{Stdin: in.Path, Stdout: echo.Path}, "cat", "exit:5")
		b.MustExec("tty", harness.IO{Stdout: tty.Path, Terminal: true}, "gate:/go", "print:70000", "exit:6")
		b.MustExec("file", harness.IO{Stdout: "file://" + file}, "gate:/go", "echo:said", "exit:7")
		b.MustExec("logged", harness.IO{Stdout: b.Logger("copy")}, "gate:/go", "echo:logged", "exit:8")
		c.Await(soon, "the FIFO is full", func() bool { return full.Unread() > 0 })
		_, err := b.Wait("unread")
		c.Must(err, "Wait")
		swap(c, b)
		in.Write("typed ")
		c.Await(soon, "the echo", func() bool { return echo.Text() == "typed " })
		swap(c, b)
		full.Read()
		unread.Read()
		c.Must(gate.Open(), "open gate")
		c.Must(b.CloseIO("cat"), "CloseIO")
		in.Close()
		for id, want := range map[string]uint32{"full": 0, "unread": 3, "cat": 5, "tty": 6, "file": 7, "logged": 8} {
			b.AwaitStatus(soon, id, want)
			_, err := b.DeleteProcess(id)
			c.Must(err, "DeleteProcess")
		}
		c.Await(soon, "all outputs have ended", func() bool { return full.Ended() && unread.Ended() && echo.Ended() && tty.Ended() })
		c.Must(full.Matches(many), "full")
		c.Must(unread.Matches(1000), "unread")
		if n := len(strings.ReplaceAll(tty.Text(), "\r", "")); n < 70000 {
			c.Errorf("terminal: %d bytes", n)
		}
		for path, want := range map[string]string{file: "said\n", filepath.Join(b.LoggerDir(), "out"): "logged\n"} {
			text := ""
			c.Await(soon, path+" is complete", func() bool {
				data, _ := os.ReadFile(path) // it may come yet
				text = string(data)
				return text == want
			})
		}
		swap(c, b)
		ends(c, b)
	})
}

// TestPhases: what is created, running, paused, never started or dead stays so.
func TestPhases(t *testing.T) {
	suite.Run(t, "phases", limit, func(c *harness.Case) {
		b := c.Fixture(harness.Options{})
		swap(c, b) // without a container
		c.Must(b.Create(), "Create")
		swap(c, b)
		b.MustStart(b.ID)
		c.Must(b.Exec("later", harness.IO{}, "exit:3"), "Exec")
		b.MustExec("dead", harness.IO{}, "exit:4")
		b.AwaitStatus(soon, "dead", 4)
		c.Must(b.Pause(), "Pause")
		swap(c, b)
		for id, want := range map[string]string{b.ID: "PAUSED", "later": "PAUSED", "dead": "STOPPED"} {
			st, err := b.State(id)
			c.Must(err, "State")
			if st.GetStatus().String() != want {
				c.Errorf("%s is %v, want %s", id, st.GetStatus(), want)
			}
		}
		c.Must(b.Resume(), "Resume")
		b.MustStart("later")
		b.AwaitStatus(soon, "later", 3)
		for _, id := range []string{"later", "dead"} {
			_, err := b.DeleteProcess(id)
			c.Must(err, "DeleteProcess")
		}
		lives(c, b, "e")
		ends(c, b)
	})
}

// masks returns the signals that the process blocks and ignores, a bit each; all
// bits if it has no status.
func masks(pid int) (blocked, ignored uint64) {
	blocked, ignored = ^uint64(0), ^uint64(0)
	status, _ := os.ReadFile(procfs.File(pid, "status"))
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "SigBlk: %x", &blocked)
		_, _ = fmt.Sscanf(line, "SigIgn: %x", &ignored)
	}
	return blocked, ignored
}

// TestChildrenInheritNothing: no descriptor, no signal mask and no label of the
// exchange reaches a process of the container.
func TestChildrenInheritNothing(t *testing.T) {
	run(t, "inherit", func(c *harness.Case, b *harness.Fixture) {
		gate := b.Gate("go")
		outs := map[string]*harness.Stream{}
		_, inherited := masks(os.Getpid()) // make(1) leaves SIGCANCEL ignored, nohup(1) SIGHUP
		for _, id := range []string{"before", "after"} {
			out := b.Stream(id).Read()
			outs[id] = out
			pid := b.MustExec(id, harness.IO{Stdout: out.Path}, "fds", "env", "gate:/go")
			c.Await(soon, id+" blocks no signal, and ignores none that the test does not", func() bool {
				blocked, ignored := masks(pid) // it waits at the gate; Go blocks signals for a moment when it makes a thread
				return blocked == 0 && ignored&^inherited == 0
			})
			swap(c, b)
		}
		c.Must(gate.Open(), "open gate")
		b.AwaitExit(soon, "after")
		c.Await(soon, "both outputs have ended", func() bool { return outs["before"].Ended() && outs["after"].Ended() })
		text := func(id string) string {
			return regexp.MustCompile(`pipe:\[\d+\]`).ReplaceAllString(outs[id].Text(), "pipe")
		}
		if before, after := text("before"), text("after"); before != after || !strings.Contains(before, "PATH=") {
			c.Errorf("descriptors and environment:\n%s\nbefore:\n%s", after, before)
		}
		ends(c, b)
	})
}
