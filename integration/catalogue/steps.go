// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// The codes of errors that daemons tell apart.
const (
	notFound     = codes.NotFound
	precondition = codes.FailedPrecondition
	exists       = codes.AlreadyExists
	invalid      = codes.InvalidArgument
)

// prompt bounds a call that need not wait for anything. A healthy shim needs less than
// a millisecond; daemons since 1.3 wait 2 s for State.
const prompt = 2 * time.Second

// elapse lets time pass, where a check is about how long something lasts.
func elapse(d time.Duration) { <-time.After(d) }

// code returns the gRPC code of a call's error.
func code(err error) codes.Code { return status.Code(err) }

// wantCode checks that a call has failed with this code.
func wantCode(c *harness.Case, what string, err error, want codes.Code) {
	if got := code(c.Prompt(err)); got != want {
		c.Errorf("%s: %v (%v), want %v", what, got, err, want)
	}
}

// lives checks that the shim runs and answers at once.
func lives(c *harness.Case, b *harness.Fixture) {
	if status, dead := b.Shim.Exited(); dead {
		c.Fatalf("ShimInfo: the shim has ended: %s", status)
	}
	info, err := b.Within(prompt).ShimInfo()
	c.Must(err, "ShimInfo")
	if int(info.GetShimPid()) != b.Shim.Pid {
		c.Errorf("ShimInfo: pid %d, want %d", info.GetShimPid(), b.Shim.Pid)
	}
}

// answers checks that the State of a process is answered at once.
func answers(c *harness.Case, b *harness.Fixture, id string) {
	_, err := b.Within(prompt).State(id)
	c.Must(err, "State of "+id)
}

// answersOrNotFound is answers for a process that the shim may not know yet, or no more.
func answersOrNotFound(c *harness.Case, b *harness.Fixture, id string) {
	if _, err := b.Within(prompt).State(id); code(err) != notFound {
		c.Must(err, "State of "+id)
	}
}

// deletes deletes the container, whose init was killed by SIGKILL.
func deletes(c *harness.Case, b *harness.Fixture) {
	d, err := b.Delete()
	c.Must(err, "Delete")
	sameExit(c, d, 137)
}

// sameExit checks that Delete's answer has this status, and a time.
func sameExit(c *harness.Case, d *task.DeleteResponse, status uint32) {
	if d.GetExitStatus() != status || d.GetExitedAt().GetSeconds() <= 0 {
		c.Errorf("Delete: status %d at %v, want %d at a real time", d.GetExitStatus(), d.GetExitedAt().AsTime(), status)
	}
}

// stopped checks that a finished process keeps its pid in State.
func stopped(c *harness.Case, b *harness.Fixture, id string, pid int) {
	s, err := b.Within(prompt).State(id)
	c.Must(err, "State of "+id)
	if s.GetStatus().String() != "STOPPED" || int(s.GetPid()) != pid {
		c.Errorf("State of %s: %v, pid %d, want STOPPED, pid %d", id, s.GetStatus(), s.GetPid(), pid)
	}
}

// readPid returns the pid in a pid file.
func readPid(c *harness.Case, path string) int {
	data, err := os.ReadFile(path)
	c.Need(err, "read pid file")
	pid, err := strconv.Atoi(string(data))
	c.Need(err, "read pid file")
	return pid
}

// onlyChild waits for the child of a process that sleeps, and returns its pid. There may
// be another child for a moment, which the Go runtime forks to find out whether the
// kernel has pidfds.
func onlyChild(c *harness.Case, pid int) int {
	child := 0
	c.Await(5*time.Second, "the child runs", func() bool {
		for _, p := range procfs.Children(pid) {
			if procfs.Command(p.Pid) == "testinit sleep" {
				child = p.Pid
			}
		}
		return child != 0
	})
	return child
}

// orphans is a rule by which the exec "brood" leaves n orphans to the shim.
func orphans(n int) fakeruntime.Rule {
	return onMatch("exec", "/brood.pid", fakeruntime.Step{Op: fakeruntime.Spawn, N: n}, fakeruntime.Step{Op: fakeruntime.Process, Name: "brood-lives"})
}

// brood runs that exec, and returns the orphans once they are the shim's.
func brood(c *harness.Case, b *harness.Fixture, n int) []int {
	c.Must(b.Exec("brood", harness.IO{}), "Exec of brood")
	resp, err := b.Within(3 * time.Minute).Start("brood") // the runtime starts n processes, on a host that may be busy
	c.Must(err, "Start of brood")
	pid := int(resp.GetPid())
	var pids []int
	for _, p := range b.Fake.Spawned() {
		if p != pid {
			pids = append(pids, p)
		}
	}
	if len(pids) != n {
		c.Need(fmt.Errorf("%d of %d", len(pids), n), "leave orphans to the shim")
	}
	c.Await(20*time.Second, "the orphans are the shim's children", func() bool {
		return len(procfs.Count(b.Shim.Pid).Living) >= n
	})
	return pids
}

// killEach kills processes one after the other.
func killEach(pids []int) {
	for _, p := range pids {
		_ = unix.Kill(p, unix.SIGKILL) // each is alive until here
	}
}

// reaped waits until the shim has reaped all these processes. No shim has a reason to
// wait for anything before it does.
func reaped(c *harness.Case, pids []int) {
	c.Await(10*time.Second, "all orphans are reaped", func() bool {
		for _, p := range pids {
			if procfs.Exists(p) {
				return false
			}
		}
		return true
	})
}

// noZombies waits until the shim has reaped its children.
func noZombies(c *harness.Case, b *harness.Fixture, d time.Duration) {
	c.Await(d, "no zombie below the shim", func() bool { return len(procfs.Count(b.Shim.Pid).Zombies) == 0 })
}

// hostPid returns options for a container in the host's pid namespace, with the fake
// runtime.
func hostPid(rules ...fakeruntime.Rule) harness.Options {
	return harness.Options{Container: harness.Container{HostPid: true}, Fake: append([]fakeruntime.Rule{}, rules...)}
}

// gated is a rule for a call of real runc that first waits at a gate.
func gated(verb, match, gate string) fakeruntime.Rule {
	return onMatch(verb, match, atGate(gate), runReal)
}

// startAtGate starts an exec whose runc stops at a gate, and returns once it is there.
func startAtGate(c *harness.Case, b *harness.Fixture, id, gate string, steps ...string) *client.Pending {
	c.Must(b.Exec(id, harness.IO{}, steps...), "Exec "+id)
	return heldAt(c, b, gate, "Start of "+id, starting(b, id))
}

// starting returns a function that calls Start and waits up to a minute.
func starting(b *harness.Fixture, id string) func() error {
	return func() error { _, err := b.Within(time.Minute).Start(id); return err }
}

// heldAt begins a call whose runc stops at a gate, and returns once it is there.
func heldAt(c *harness.Case, b *harness.Fixture, gate, what string, call func() error) *client.Pending {
	p := client.Async(what, call)
	c.Await(5*time.Second, what+" is at its runc", func() bool { return b.Fake.Arrived(gate) > 0 })
	return p
}

func open(c *harness.Case, g *wait.Gate) { c.Need(g.Open(), "open gate") }

// failing is a rule for a runc exec that fails with that text in its log.
func failing(match, text string) fakeruntime.Rule {
	return onMatch("exec", match, logs(text), exits(1))
}

// on is a rule for a verb of the runtime.
func on(verb string, steps ...fakeruntime.Step) fakeruntime.Rule {
	return fakeruntime.Rule{Verb: verb, Steps: steps}
}

// onMatch is a rule for calls of a verb with an argument that contains piece.
func onMatch(verb, piece string, steps ...fakeruntime.Step) fakeruntime.Rule {
	return fakeruntime.Rule{Verb: verb, Match: piece, Steps: steps}
}

// onOnce is a rule for the first call of a verb only.
func onOnce(verb string, steps ...fakeruntime.Step) fakeruntime.Rule {
	return fakeruntime.Rule{Verb: verb, Times: 1, Steps: steps}
}

// runReal runs the real runtime.
var runReal = fakeruntime.Step{Op: fakeruntime.Real}

// atGate waits at a gate.
func atGate(name string) fakeruntime.Step { return fakeruntime.Step{Op: fakeruntime.Gate, Name: name} }

// logs writes an error into the runtime's log.
func logs(text string) fakeruntime.Step { return fakeruntime.Step{Op: fakeruntime.Log, Text: text} }

// exits ends the runtime with a status, and words on its stderr.
func exits(status int, words ...string) fakeruntime.Step {
	return fakeruntime.Step{Op: fakeruntime.Exit, N: status, Text: strings.Join(words, " ")}
}

// up starts a shim with a running container.
func up(c *harness.Case) *harness.Fixture { return upWith(c, harness.Options{}) }

// upFaked is up with the fake runtime.
func upFaked(c *harness.Case, rules ...fakeruntime.Rule) *harness.Fixture {
	b := faked(c, rules...)
	b.Up()
	return b
}

// upWith is up with options.
func upWith(c *harness.Case, o harness.Options) *harness.Fixture {
	b := c.Fixture(o)
	b.Up()
	return b
}

// faked starts a shim with the fake runtime, which without a rule only records its
// calls.
func faked(c *harness.Case, rules ...fakeruntime.Rule) *harness.Fixture {
	return c.Fixture(harness.Options{Fake: append([]fakeruntime.Rule{}, rules...)})
}

// failExec starts an exec whose runc fails, deletes it, and returns the error.
func failExec(c *harness.Case, b *harness.Fixture, id string) error {
	c.Must(b.Exec(id, harness.IO{}, "exit:0"), "Exec "+id)
	_, err := b.Client.Start(id)
	if c.Prompt(err) == nil {
		c.Fatalf("Start of %s succeeded although its runc failed", id)
	}
	_, derr := b.DeleteProcess(id)
	c.Must(derr, "DeleteProcess of "+id)
	return err
}
