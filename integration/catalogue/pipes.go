// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"os"
	"strings"
	"time"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
)

var pipeChecks = []Check{
	onlyGiven("B26", "stdout"),
	onlyGiven("B26b", "stderr"),
	onlyGiven("B26c", "stdin"),
	{ID: "B27", Name: "runc create writes 200 kB",
		Incident: "containerd #4434, runc #2530: a chatty hook deadlocks Create",
		Asserts:  "Create succeeds and the bytes reach the container's stderr",
		Run:      chattyCreate},
	{ID: "B27b", Name: "runc exec writes 200 kB",
		Incident: "containerd #4434, runc #2530",
		Asserts:  "Start succeeds and the bytes reach the exec's stderr",
		Run:      chattyExec},
	{ID: "B28", Name: "a child of runc create keeps its output open",
		Incident: "containerd #4434: a hook's background process delays Create of a tty container as long as it lives",
		Asserts:  "Create answers when runc has ended",
		Run:      with(inheritedPipe, "create")},
	{ID: "B28b", Name: "a child of runc start keeps its output open",
		Incident: "containerd #4434: the same for Start",
		Asserts:  "Start answers when runc has ended",
		Run:      with(inheritedPipe, "start")},
	{ID: "B28c", Name: "a child of runc kill keeps its output open",
		Incident: "containerd #4434: the same for Kill",
		Asserts:  "Kill answers when runc has ended",
		Run:      with(inheritedPipe, "kill")},
}

func onlyGiven(id, set string) Check {
	return Check{ID: id, Name: "only " + set + " is given",
		Incident: "no public thread: Create fails after the container exists, or hangs",
		Asserts:  "Create succeeds, the other streams are /dev/null",
		Run:      with(oneStream, set)}
}

func oneStream(c *harness.Case, set string) {
	steps := []string{"echo:out", "eprint:err", "sleep"}
	if set == "stdin" {
		steps = []string{"cat", "exit:5"} // at the end of stdin, which /dev/null has at once
	}
	b := c.Fixture(harness.Options{Container: harness.Container{Args: steps}})
	s := b.Stream(set)
	io := harness.IO{}
	switch set {
	case "stdout":
		io.Stdout = s.Read().Path
	case "stderr":
		io.Stderr = s.Read().Path
	case "stdin":
		io.Stdin = s.Write("").Path
	}
	b.UpWith(io)
	for fd, name := range []string{"stdin", "stdout", "stderr"} {
		want := "/dev/null"
		if name == set {
			want = "pipe:"
		}
		got, err := os.Readlink(procfs.File(b.InitPid, fmt.Sprintf("fd/%d", fd)))
		if err != nil || !strings.HasPrefix(got, want) {
			c.Errorf("the container's %s is %q (%v), want %s", name, got, err, want)
		}
	}
	if set == "stdin" {
		c.Await(5*time.Second, "stdin is open", s.Opened)
		s.Close()
		c.Must(b.CloseIO(b.ID), "CloseIO")
		b.AwaitStatus(5*time.Second, b.ID, 5)
		return
	}
	want := map[string]string{"stdout": "out\n", "stderr": "err\n"}[set]
	c.Await(5*time.Second, "the stream has "+strings.TrimSpace(want), func() bool { return s.Text() == want })
}

const chatter = 200000

func chattyCreate(c *harness.Case) {
	b := faked(c, on("create", fakeruntime.Step{Op: fakeruntime.Stderr, N: chatter}, runReal))
	out, errs := b.Stream("out").Read(), b.Stream("err").Read()
	_, err := b.CreateTask(b.CreateRequest(harness.IO{Stdout: out.Path, Stderr: errs.Path}))
	c.Must(err, "Create")
	c.Await(5*time.Second, "runc's output is on stderr", func() bool { return strings.Count(errs.Text(), "e") >= chatter })
}

func chattyExec(c *harness.Case) {
	b := upFaked(c, on("exec", fakeruntime.Step{Op: fakeruntime.Stderr, N: chatter}, runReal))
	out, errs := b.Stream("out").Read(), b.Stream("err").Read()
	b.MustExec("e", harness.IO{Stdout: out.Path, Stderr: errs.Path}, "sleep")
	c.Await(5*time.Second, "runc's output is on stderr", func() bool { return strings.Count(errs.Text(), "e") >= chatter })
}

func inheritedPipe(c *harness.Case, verb string) {
	o := harness.Options{Fake: []fakeruntime.Rule{on(verb, fakeruntime.Step{Op: fakeruntime.Hold}, runReal)}}
	o.Container.Terminal = true
	b := c.Fixture(o)
	in, out := b.Stream("in").Write(""), b.Stream("out").Read()
	b.UpWith(harness.IO{Stdin: in.Path, Stdout: out.Path, Terminal: true})
	b.Die()
}
