// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
)

var streamChecks = []Check{
	{ID: "F03", Name: "end of stdin on a terminal that nobody reads",
		Incident: "the client of `exec -it` goes away under a flood of output: the exec outlives it",
		Asserts:  "the exec is hung up, and ends, within 5 s of the client's close and CloseIO",
		Run:      hangUpUnread},
	{ID: "F08", Name: "full disk below a file:// log",
		Incident: "ENOSPC closed the pipe, and the process died of SIGPIPE",
		Asserts:  "the process waits for room, and nothing is lost",
		Run:      fullDisk},
	stdinIs("F13", "a plain file"),
	stdinIs("F13b", os.DevNull),
	{ID: "F15", Name: "Delete while the client does not read",
		Incident: "the log writer of CRI has given up: Delete takes CRI's own 10 s, and shim and bundle leak",
		Asserts:  "Delete answers within 4 s",
		Run:      deleteUnread},
	runcSays("F23", "exec"),
	runcSays("F23b", "create"),
}

func stdinIs(id, what string) Check {
	return Check{ID: id, Name: "stdin is " + what,
		Incident: "found beside containerd #2439: it was refused as no FIFO",
		Asserts:  "the process reads it to its end",
		Run:      with(plainStdin, what)}
}

func runcSays(id, verb string) Check {
	return Check{ID: id, Name: "what a failing runc " + verb + " says",
		Incident: "`docker exec c /nope`: runc's own error text in the process's stderr, and in docker logs",
		Asserts:  "the client's streams stay empty, and end or are left alone",
		Run:      with(runtimeWords, verb)}
}

func hangUpUnread(c *harness.Case) {
	b := up(c)
	in, out := b.Stream("in").Write(""), b.Stream("out").OpenOnly()
	defer out.Close()
	b.MustExec("e", harness.IO{Stdin: in.Path, Stdout: out.Path, Terminal: true}, "print:1000000", "cat")
	c.Await(5*time.Second, "stdin is open", in.Opened)
	fills(c, out)
	in.Close()
	c.Must(b.CloseIO("e"), "CloseIO")
	b.AwaitExit(5*time.Second, "e")
}

// fills waits until a stream that nobody reads is full.
func fills(c *harness.Case, s *harness.Stream) {
	last, since := 0, time.Now()
	c.Await(10*time.Second, "the output is full", func() bool {
		if n := s.Unread(); n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 500*time.Millisecond
	})
}

func fullDisk(c *harness.Case) {
	const n = 300000
	b := c.Fixture(harness.Options{Container: harness.Container{Args: []string{fmt.Sprintf("print:%d", n), "exit:0"}}})
	disk := b.Path("disk")
	c.Need(os.Mkdir(disk, 0o700), "make directory")
	c.Need(unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"), "mount a small disk")
	defer func() { _ = unix.Unmount(disk, unix.MNT_DETACH) }() // the shim may still write there
	log := filepath.Join(disk, "log")
	b.UpWith(harness.IO{Stdout: "file://" + log, Stderr: "file://" + log})
	c.Await(5*time.Second, "the disk is full", func() bool { st, err := os.Stat(log); return err == nil && st.Size() == 64<<10 })
	elapse(500 * time.Millisecond)
	if !procfs.Alive(b.InitPid) {
		c.Errorf("the process did not wait for room")
	}
	c.Need(unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=1m"), "enlarge it")
	b.AwaitStatus(5*time.Second, b.ID, 0)
	c.Await(5*time.Second, "all is in the file", func() bool { st, err := os.Stat(log); return err == nil && st.Size() == n })
}

func plainStdin(c *harness.Case, what string) {
	b := up(c)
	path, want := os.DevNull, ""
	if what != os.DevNull {
		path, want = b.Path("stdin"), "line\n"
		c.Need(os.WriteFile(path, []byte(want), 0o600), "write a file")
	}
	out, errs := b.Stream("out").Read(), b.Stream("err").Read()
	b.MustExec("e", harness.IO{Stdin: path, Stdout: out.Path, Stderr: errs.Path}, "cat")
	c.Must(b.CloseIO("e"), "CloseIO")
	b.AwaitExit(5*time.Second, "e")
	c.Await(5*time.Second, "the end of the output", out.Ended)
	if out.Text() != want {
		c.Errorf("the process read %q, want %q", out.Text(), want)
	}
}

func deleteUnread(c *harness.Case) {
	b := c.Fixture(harness.Options{Container: harness.Container{Args: []string{"print:300000", "sleep"}}})
	out, errs := b.Stream("out").OpenOnly(), b.Stream("err").Read()
	defer out.Close()
	b.UpWith(harness.IO{Stdout: out.Path, Stderr: errs.Path})
	fills(c, out)
	b.Die()
	_, err := b.Within(4 * time.Second).Delete()
	c.Must(err, "Delete")
}

// words is what the runtime writes before it fails.
const words = "exec failed: no such program"

func runtimeWords(c *harness.Case, verb string) {
	b := faked(c, on(verb, fakeruntime.Step{Op: fakeruntime.Print, Text: words}, exits(1, words)))
	out, errs := b.Stream("out").Read(), b.Stream("err").Read()
	io := harness.IO{Stdout: out.Path, Stderr: errs.Path}
	var err error
	if verb == "create" {
		_, err = b.CreateTask(b.CreateRequest(io))
	} else {
		b.Up()
		c.Must(b.Exec("e", io, "exit:0"), "Exec")
		_, err = b.Client.Start("e")
	}
	if err == nil {
		c.Fatalf("runc %s failed, and the call succeeded", verb)
	}
	if !strings.Contains(c.Prompt(err).Error(), words) {
		c.Logf("the error does not say why: %v", err)
	}
	_, err = b.ShimInfo() // it was the shim that refused
	c.Must(err, "ShimInfo")
	elapse(500 * time.Millisecond) // for bytes that are still on their way
	for _, s := range []*harness.Stream{out, errs} {
		if s.Text() != "" {
			c.Errorf("%s has %q, which is the runtime's", filepath.Base(s.Path), s.Text())
		}
	}
}
