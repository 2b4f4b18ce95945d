// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"strings"
	"time"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

var stdinChecks = []Check{
	{ID: "B32", Name: "CloseIO before Start",
		Incident: "containerd #2439, #4489, moby #37870, nerdctl #5029: `echo x | docker exec -i c cat` hangs",
		Asserts:  "the exec's stdin ends when the client has closed its end as well, and nothing is lost",
		Run:      closeBeforeStart},
	{ID: "B32b", Name: "CloseIO while runc exec runs",
		Incident: "containerd #4489: the same, a little later",
		Asserts:  "CloseIO answers at once, and stdin ends",
		Run:      closeDuringStart},
	{ID: "B32c", Name: "CloseIO twice, without stdin and after the exit",
		Incident: "moby #38001: clients repeat it",
		Asserts:  "each answers without an error",
		Run:      closeAgain},
	{ID: "B35", Name: "end of stdin on a terminal",
		Incident: "containerd #2807: the client goes away, `sh` stays, later calls block on the console",
		Asserts:  "the exec ends within 4 s of the client's close and CloseIO",
		Run:      terminalEnd},
	{ID: "B66", Name: "nobody reads stdout for a while",
		Incident: "containerd #11511: with the daemon down the application stops in pipe_write",
		Asserts:  "the process waits and loses nothing: a reader that comes later gets all 300000 bytes",
		Run:      lateReader},
}

// closeRounds is how often CloseIO is called early. Upstream opens a writing end of
// stdin in parallel with Start, and gives up if Start is done first: now and then, on a
// busy host, there is nothing to close, and the bug does not show.
const closeRounds = 4

func closeBeforeStart(c *harness.Case) {
	b := up(c)
	for i := range closeRounds {
		id := fmt.Sprintf("e%d", i)
		in, out := catExec(c, b, id)
		c.Must(b.CloseIO(id), "CloseIO")
		b.MustStart(id)
		endsWith(c, b, id, in, out)
	}
}

func closeDuringStart(c *harness.Case) {
	var rules []fakeruntime.Rule
	for i := range closeRounds {
		rules = append(rules, gated("exec", fmt.Sprintf("/e%d.pid", i), fmt.Sprintf("slow%d", i)))
	}
	b := upWith(c, harness.Options{Fake: rules})
	for i, r := range rules {
		id, gate := fmt.Sprintf("e%d", i), r.Steps[0].Name
		in, out := catExec(c, b, id)
		start := heldAt(c, b, gate, "Start", starting(b, id))
		c.Must(b.Within(prompt).CloseIO(id), "CloseIO")
		open(c, b.Fake.Gate(gate))
		c.Must(start.Await(10*time.Second), "Start")
		endsWith(c, b, id, in, out)
	}
}

// catExec adds an exec that copies its stdin to its stdout, and writes a line to it.
func catExec(c *harness.Case, b *harness.Fixture, id string) (in, out *harness.Stream) {
	in, out = b.Stream("in"+id).Write("line\n"), b.Stream("out"+id).Read()
	errs := b.Stream("err" + id).Read()
	c.Must(b.Exec(id, harness.IO{Stdin: in.Path, Stdout: out.Path, Stderr: errs.Path}, "cat"), "Exec")
	return in, out
}

// endsWith checks that the line comes back, and that the exec ends when the client
// closes stdin.
func endsWith(c *harness.Case, b *harness.Fixture, id string, in, out *harness.Stream) {
	c.Await(5*time.Second, "the line has come back", func() bool { return out.Text() == "line\n" })
	// Give a shim that opens a writing end of its own time to do so: one that is opened
	// only after the client's was closed would not keep stdin open.
	_ = wait.For(200*time.Millisecond, "", func() bool {
		return procfs.Count(b.Shim.Pid).FdsLike(in.Path) > 1
	})
	in.Close()
	b.AwaitExit(5*time.Second, id)
}

func closeAgain(c *harness.Case) {
	b := up(c)
	in, out, errs := b.Stream("in").Write(""), b.Stream("out").Read(), b.Stream("err").Read()
	b.MustExec("e", harness.IO{Stdin: in.Path, Stdout: out.Path, Stderr: errs.Path}, "cat")
	c.Await(5*time.Second, "stdin is open", in.Opened)
	for range 2 {
		c.Must(b.CloseIO("e"), "CloseIO")
	}
	in.Close()
	b.AwaitExit(5*time.Second, "e")
	c.Must(b.CloseIO("e"), "CloseIO after the exit")
	c.Must(b.CloseIO(b.ID), "CloseIO of a process without stdin")
}

func terminalEnd(c *harness.Case) {
	b := up(c)
	in, out := b.Stream("in").Write("line\n"), b.Stream("out").Read()
	b.MustExec("e", harness.IO{Stdin: in.Path, Stdout: out.Path, Terminal: true}, "cat")
	// Once as the terminal's echo, once from cat.
	c.Await(5*time.Second, "the line has come back", func() bool { return strings.Count(out.Text(), "line") == 2 })
	in.Close()
	c.Must(b.CloseIO("e"), "CloseIO")
	b.AwaitExit(4*time.Second, "e")
}

func lateReader(c *harness.Case) {
	const n = 300000 // more than a pipe and a FIFO hold together
	b := up(c)
	go1 := b.Gate("go")
	out, errs := b.Stream("out").OpenOnly(), b.Stream("err").Read()
	pid := b.MustExec("e", harness.IO{Stdout: out.Path, Stderr: errs.Path}, "gate:/go", "print:300000", "exit:0")
	c.Await(5*time.Second, "stdout is open", out.Opened)
	out.Close()
	open(c, go1)
	elapse(time.Second)
	if !procfs.Alive(pid) {
		c.Fatalf("the process did not wait for a reader")
	}
	again := b.Again(out).Read()
	b.AwaitExit(10*time.Second, "e")
	c.Must(delProc(b, "e"), "DeleteProcess")
	c.Await(10*time.Second, "the end of the output", again.Ended)
	if err := again.Matches(n); err != nil {
		c.Errorf("stdout: %v", err)
	}
}
