// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// settle is how long a shim may take to close descriptors. It must not leave that to
// its garbage collector.
const settle = 5 * time.Second

var leakChecks = []Check{
	{ID: "B36", Name: "clients keep stdin open after DeleteProcess",
		Incident: "containerd #8856, #9257, #10082: two descriptors and a goroutine for each exec",
		Asserts:  "5 s after 10 execs were deleted the shim has no FIFO open that it had not before",
		Run:      func(c *harness.Case) { execLeak(c, false, true) }},
	{ID: "B36b", Name: "clients keep stdin of terminals open after DeleteProcess",
		Incident: "containerd #8856, #3949: the pty master leaks too",
		Asserts:  "5 s after 10 execs were deleted the shim has no FIFO or pty open that it had not before",
		Run:      func(c *harness.Case) { execLeak(c, true, true) }},
	{ID: "B37", Name: "terminals after DeleteProcess",
		Incident: "containerd #7604, #11161: descriptors that only the garbage collector closes",
		Asserts:  "5 s after 10 execs were deleted the shim has no FIFO or pty open that it had not before",
		Run:      func(c *harness.Case) { execLeak(c, true, false) }},
	{ID: "B38", Name: "log.json after failed execs",
		Incident: "containerd #3319: one open descriptor for each",
		Asserts:  "after 10 failed execs the shim has no log file of runc open",
		Run:      failedExecFds},
	{ID: "B39", Name: "Waits of clients that have gone",
		Incident: "containerd #11483: memory grows with daemon restarts and `docker wait`",
		Asserts:  "50 connections, each with a Wait, are closed: their goroutines end",
		Run:      waitLeak},
	{ID: "B40", Name: "runc's log of failed execs",
		Incident: "containerd #8972, #6157, #11862: a failing probe fills /run in weeks, the node breaks",
		Asserts:  "60 failures with 4 kB of log each leave less than 64 kB in the bundle",
		Run:      logGrowth},
}

func execLeak(c *harness.Case, tty, keep bool) {
	const n = 10
	b := up(c)
	held := func() string {
		count := procfs.Count(b.Shim.Pid)
		return fmt.Sprintf("%d FIFOs, %d ptys", count.FdsLike(b.Path("x-")), count.FdsLike("ptmx"))
	}
	before := held()
	for i := range n {
		id := fmt.Sprintf("e%d", i)
		in, out := b.Stream("x-in"+id).Write("x\n"), b.Stream("x-out"+id).Read()
		io := harness.IO{Stdin: in.Path, Stdout: out.Path, Terminal: tty}
		if !tty {
			io.Stderr = b.Stream("x-err" + id).Read().Path
		}
		b.MustExec(id, io, "echo:done", "exit:0")
		c.Await(5*time.Second, "stdin of "+id+" is open", in.Opened)
		b.AwaitExit(5*time.Second, id)
		if !keep {
			in.Close()
		}
		_, err := b.Within(drainBound).DeleteProcess(id)
		c.Must(err, "DeleteProcess of "+id)
	}
	if err := wait.For(settle, "", func() bool { return held() == before }); err != nil {
		c.Errorf("the shim holds %s, before the execs %s", held(), before)
	}
}

func failedExecFds(c *harness.Case) {
	b := upFaked(c, failing("", "no such file"))
	for i := range 10 {
		failExec(c, b, fmt.Sprintf("e%d", i))
	}
	// At once: later the garbage collector may have closed them.
	if n := procfs.Count(b.Shim.Pid).FdsLike("log.json"); n > 0 {
		c.Errorf("%d descriptors of log.json are open", n)
	}
}

func waitLeak(c *harness.Case) {
	const n = 50
	b := up(c)
	goroutines := func() int {
		stacks, err := b.Shim.Stacks(5 * time.Second)
		c.Must(err, "SIGUSR1")
		return strings.Count(stacks, "\ngoroutine ")
	}
	before := goroutines()
	var waits []*client.Waiting
	for range n {
		waits = append(waits, b.BeginWait(b.ID))
	}
	c.Logf("goroutines: %d before, %d with %d Waits", before, goroutines(), n)
	for _, w := range waits {
		c.Need(w.Close(), "disconnect")
	}
	last := 0
	if wait.For(settle, "", func() bool { last = goroutines(); return last < before+n/2 }) != nil {
		c.Errorf("%d goroutines, %d before the %d Waits of clients that have gone", last, before, n)
	}
	answers(c, b, b.ID)
}

func logGrowth(c *harness.Case) {
	const failures, each, most = 60, 4096, 64 << 10
	b := upFaked(c, failing("", strings.Repeat("x", each)))
	for i := range failures {
		failExec(c, b, fmt.Sprintf("e%d", i))
	}
	var size int64
	entries, err := os.ReadDir(b.Bundle)
	c.Need(err, "list bundle")
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
			c.Logf("%s: %d bytes", filepath.Join(b.Bundle, e.Name()), info.Size())
		}
	}
	if size > most {
		c.Errorf("the bundle's files have %d bytes after %d failures, want at most %d", size, failures, most)
	}
}
