// SPDX-License-Identifier: Apache-2.0

package inplace_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/suite"
)

// fickle is a program that can read every state, and does something to itself
// after it was asked: what is executed then is another.
func fickle(does string) []byte {
	return fmt.Appendf(nil, "#!/bin/sh\necho the state can be adopted\n%s\n", does)
}

// TestProgramsThatCannotTakeOver are refused, whether that shows when they are
// asked or only when they are executed; the shim lives on unharmed, with a Wait
// that is pending, and takes a good program after them.
func TestProgramsThatCannotTakeOver(t *testing.T) {
	run(t, "refused", func(c *harness.Case, b *harness.Fixture) {
		b.MustExec("pending", harness.IO{}, "term:3", "sleep")
		wait := b.BeginWait("pending")
		shim, err := os.ReadFile(c.Shim)
		c.Need(err, "read the shim")
		foreign := append([]byte(nil), shim...)
		foreign[18] ^= 0xff // e_machine (elf(5))
		busy := program(c, b, "busy", nil)
		f, err := os.OpenFile(busy, os.O_WRONLY, 0)
		c.Need(err, "open for writing")
		defer f.Close()
		plain := program(c, b, "plain", nil)
		c.Need(os.Chmod(plain, 0o600), "chmod")
		before := procfs.Count(b.Shim.Pid).Threads
		for name, try := range map[string]struct{ binary, want string }{
			"relative":            {"bin/containerd-shim", "absolute"},
			"ENOENT":              {b.Path("nothing"), "no such file"},
			"a directory":         {b.Path(""), "is a directory"},
			"EACCES, mode":        {plain, "denied"},
			"ENOEXEC":             {program(c, b, "junk", []byte("junk")), "exec format"},
			"a short ELF":         {program(c, b, "short", shim[:100]), "exec format"},
			"half an ELF":         {program(c, b, "half", shim[:len(shim)/2]), "cannot take over"},
			"another machine's":   {program(c, b, "foreign", foreign), "exec format"},
			"ETXTBSY":             {busy, "busy"},
			"it exits with 1":     {"/bin/false", "cannot take over"},
			"it says nothing":     {"/bin/true", "cannot take over"},
			"ENOENT at execve":    {program(c, b, "gone", fickle(`rm "$0"`)), "no such file"},
			"EACCES at execve":    {program(c, b, "plain2", fickle(`chmod 600 "$0"`)), "denied"},
			"ENOEXEC at execve":   {program(c, b, "junk2", fickle(`echo junk >"$0.new"; chmod 700 "$0.new"; mv "$0.new" "$0"`)), "exec format"},
			"its interpreter":     {program(c, b, "lost", fickle(`printf '#!/no/such\n' >"$0.new"; chmod 700 "$0.new"; mv "$0.new" "$0"`)), "no such file"},
			"directory at execve": {program(c, b, "dir", fickle(`rm "$0"; mkdir "$0"`)), "denied"},
		} {
			err := exchange(b, try.binary)
			if err == nil || !strings.Contains(err.Error(), try.want) {
				c.Errorf("%s: error %v, want %q in it", name, err, try.want)
			}
			if exe, err := os.Readlink(procfs.File(b.Shim.Pid, "exe")); err != nil || exe != c.Shim {
				c.Fatalf("%s: the shim runs %s, %v", name, exe, err)
			}
			for _, left := range []string{".shim.state.json", "..shim.state.json.new"} {
				if _, err := os.Stat(b.Bundle + "/" + left); err == nil {
					c.Errorf("%s: %s is left", name, left)
				}
			}
		}
		lives(c, b, "e")
		if after := procfs.Count(b.Shim.Pid).Threads; after > before+2 {
			c.Errorf("%d threads, %d before", after, before)
		}
		swap(c, b)
		lives(c, b, "f")
		c.Must(b.Kill("pending", 15, false), "Kill")
		c.Must(wait.Await(soon), "Wait")
		if wait.Reply.GetExitStatus() != 3 {
			c.Errorf("Wait: %v", &wait.Reply)
		}
		ends(c, b)
	})
}

// TestBusyShim: a runtime that hangs has the exchange refused, and neither keeps
// the shim from answering nor is harmed.
func TestBusyShim(t *testing.T) {
	suite.Run(t, "busy", limit, func(c *harness.Case) {
		b := c.Fixture(harness.Options{Fake: []fakeruntime.Rule{{Verb: "exec", Steps: []fakeruntime.Step{{Op: fakeruntime.Gate, Name: "hang"}, {Op: fakeruntime.Real}}}}})
		b.Up()
		c.Must(b.Exec("e", harness.IO{}, "exit:4"), "Exec")
		started := make(chan error, 1)
		go func() {
			_, err := b.WithDeadline(0).Within(4 * soon).StartOnly("e")
			started <- err
		}()
		c.Await(soon, "runc is at work", func() bool { return b.Fake.Arrived("hang") > 0 })
		refused := make(chan error, 1)
		go func() { refused <- exchange(b, c.Shim) }()
		for done := false; !done; {
			_, err := b.State(b.ID) // within client.Patience
			c.Must(err, "State")
			select {
			case err := <-refused:
				done = true
				if err == nil || !strings.Contains(err.Error(), "does not come to rest") {
					c.Errorf("error %v", err)
				}
			default:
			}
		}
		c.Must(b.Fake.Gate("hang").Open(), "open gate")
		c.Must(<-started, "Start")
		b.AwaitStatus(soon, "e", 4)
		swap(c, b)
		ends(c, b)
	})
}

// TestToldToEnd: a SIGTERM around an exchange is not lost.
func TestToldToEnd(t *testing.T) {
	for i := range 5 {
		run(t, fmt.Sprint("end", i), func(c *harness.Case, b *harness.Fixture) {
			go func() { _ = exchange(b, c.Shim) }() // either the shim ends, or it is exchanged and then ends
			c.Need(unix.Kill(b.Shim.Pid, unix.SIGTERM), "signal")
			if code, err := b.Shim.ExitCode(soon); err != nil || code != 0 {
				c.Errorf("exit code %d, %v", code, err)
			}
			if b.RuncHas() {
				c.Errorf("the container is left")
			}
		})
	}
}

// TestToldToEndInVain: an exchanged shim, too, ends when it is told to although the
// runtime cannot remove the container, and says so by its status.
func TestToldToEndInVain(t *testing.T) {
	suite.Run(t, "vain", limit, func(c *harness.Case) {
		b := c.Fixture(harness.Options{Bare: true, Fake: []fakeruntime.Rule{{Verb: "delete", Steps: []fakeruntime.Step{{Op: fakeruntime.Exit, N: 1, Text: "no"}}}}})
		b.Up()
		swap(c, b)
		c.Need(unix.Kill(b.Shim.Pid, unix.SIGTERM), "signal")
		if code, err := b.Shim.ExitCode(soon); err != nil || code != 1 {
			c.Errorf("exit code %d, %v, want 1", code, err)
		}
	})
}

// TestLoggerOfAFailedStart: it is ended although it ignores SIGTERM, and the program is
// exchanged at once.
func TestLoggerOfAFailedStart(t *testing.T) {
	suite.Run(t, "logger", limit, func(c *harness.Case) {
		b := c.Fixture(harness.Options{Bare: true, Fake: []fakeruntime.Rule{{Verb: "exec", Steps: []fakeruntime.Step{{Op: fakeruntime.Exit, N: 1, Text: "no"}}}}})
		b.Up()
		c.Must(b.Exec("e", harness.IO{Stdout: b.Logger("stay")}, "exit:0"), "Exec")
		if _, err := b.StartOnly("e"); err == nil {
			c.Errorf("the start has not failed")
		}
		text, err := os.ReadFile(filepath.Join(b.LoggerDir(), "pid"))
		c.Need(err, "the logger's pid")
		pid, err := strconv.Atoi(string(text))
		c.Need(err, "the logger's pid")
		if !procfs.Alive(pid) {
			c.Errorf("the logger has ended too soon to test anything")
		}
		swap(c, b)
		c.Await(3*time.Second, "the logger is gone", func() bool { return !procfs.Alive(pid) })
	})
}
