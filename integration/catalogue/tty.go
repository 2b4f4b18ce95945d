// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"strings"
	"time"

	"containerd-shim.v1/integration/harness"
)

var ttyChecks = []Check{
	{ID: "B33", Name: "ResizePty before Start",
		Incident: "moby #35407, #33794, docker/cli #3554: the terminal has the wrong size, clients retry ten times",
		Asserts:  "the size is remembered and applied to the console",
		Run:      resizeBeforeStart},
	{ID: "B33b", Name: "ResizePty of an unknown process",
		Incident: "found beside moby #35407: the error is Unknown",
		Asserts:  "NotFound",
		Run: func(c *harness.Case) {
			b := up(c)
			wantCode(c, "ResizePty", b.ResizePty("nobody", 80, 24), notFound)
		}},
	{ID: "B33c", Name: "ResizePty after Start",
		Incident: "the plain case of moby #35407",
		Asserts:  "the process sees the size",
		Run:      resizeAfterStart},
	{ID: "F25", Name: "a shell leaves a job on its terminal",
		Incident: "`docker exec -it c sh`, `server &`, `exit`: a client waits for the output's end before it deletes the exec, and docker up to 18.09 handles no other event of the container meanwhile",
		Asserts:  "the output, all of it, ends within 5 s of the exec's exit, without DeleteProcess",
		Run:      jobOnTerminal},
}

func jobOnTerminal(c *harness.Case) {
	b := up(c)
	out := b.Stream("out").Read()
	b.MustExec("e", harness.IO{Stdout: out.Path, Terminal: true}, "echo:ok", "holdout:10m", "exit:0")
	b.AwaitExit(5*time.Second, "e")
	c.Await(5*time.Second, "the output ends", out.Ended)
	if out.Text() != "ok\r\n" {
		c.Errorf("output %q, want %q", out.Text(), "ok\r\n")
	}
	c.Must(delProc(b, "e"), "DeleteProcess")
}

func resizeBeforeStart(c *harness.Case) {
	b := up(c)
	in, out := b.Stream("in").Write(""), b.Stream("out").Read()
	gate := b.Gate("go")
	c.Must(b.Exec("e", harness.IO{Stdin: in.Path, Stdout: out.Path, Terminal: true}, "gate:/go", "winsize"), "Exec")
	c.Must(b.ResizePty("e", 123, 45), "ResizePty")
	b.MustStart("e")
	open(c, gate)
	wantSize(c, out, "45 123")
}

func resizeAfterStart(c *harness.Case) {
	b := up(c)
	in, out := b.Stream("in").Write(""), b.Stream("out").Read()
	gate := b.Gate("go")
	b.MustExec("e", harness.IO{Stdin: in.Path, Stdout: out.Path, Terminal: true}, "gate:/go", "winsize")
	c.Must(b.ResizePty("e", 123, 45), "ResizePty")
	open(c, gate)
	wantSize(c, out, "45 123")
}

func wantSize(c *harness.Case, out *harness.Stream, want string) {
	c.Await(5*time.Second, "the size is printed", func() bool { return strings.Contains(out.Text(), "\n") })
	if got := strings.TrimSpace(out.Text()); got != want {
		c.Errorf("the process sees %q, want %q", got, want)
	}
}
