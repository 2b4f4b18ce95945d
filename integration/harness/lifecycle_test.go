// SPDX-License-Identifier: Apache-2.0

package harness_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/launch"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/suite"
)

func TestMain(m *testing.M) { os.Exit(suite.Main(m)) }

// lifecycle is what every shim does right, so it shows whether the harness
// works at all.
func lifecycle(o harness.Options) func(*harness.Case) {
	return func(c *harness.Case) {
		b := c.Fixture(o)
		out := b.Stream("stdout").Read()
		errs := b.Stream("stderr").Read()
		b.Up()
		pid := b.MustExec("e", harness.IO{Stdout: out.Path, Stderr: errs.Path}, "print:100000", "eprint:done", "exit:7")
		e := b.AwaitExit(5*time.Second, "e")
		if int(e.Exit.GetPid()) != pid || e.Exit.GetExitStatus() != 7 || e.Namespace != "shimverify" {
			c.Errorf("event %v in namespace %q, want pid %d, status 7", e, e.Namespace, pid)
		}
		w, err := b.Wait("e")
		c.Must(err, "Wait of e")
		if w.GetExitStatus() != 7 {
			c.Errorf("Wait of e: status %d, want 7", w.GetExitStatus())
		}
		_, err = b.DeleteProcess("e")
		c.Must(err, "DeleteProcess of e")
		c.Await(5*time.Second, "end of e's output", func() bool { return out.Ended() && errs.Ended() })
		if err := out.Matches(100000); err != nil {
			c.Errorf("stdout of e: %v", err)
		}
		if errs.Text() != "done\n" {
			c.Errorf("stderr of e: %q", errs.Text())
		}
		c.Must(b.Kill(b.ID, 9, true), "Kill of init")
		b.AwaitExit(5*time.Second, b.ID)
		d, err := b.Delete()
		c.Must(err, "Delete")
		if d.GetExitStatus() != 137 {
			c.Errorf("Delete: status %d, want 137", d.GetExitStatus())
		}
		if b.RuncHas() {
			c.Errorf("runc still has the container")
		}
		if z := procfs.Count(b.Shim.Pid).Zombies; len(z) > 0 {
			c.Errorf("zombies: %v", z)
		}
	}
}

// TestLifecycleV2: the same calls in a v2 shim's own words; nothing of it is left, also
// not its socket, whose place it has chosen itself.
func TestLifecycleV2(t *testing.T) {
	socket := ""
	r := suite.Result(t, "/usr/bin/containerd-shim-runc-v2", "v2", 30*time.Second, func(c *harness.Case) {
		lifecycle(harness.Options{})(c)
		socket = c.Fixture(harness.Options{}).Shim.Address
	})
	if r.Verdict != harness.Pass {
		t.Errorf("%s: %q", r.Verdict, r.Messages)
	}
	if _, err := os.Lstat(socket); socket == "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket %q is left behind: %v", socket, err)
	}
}

// TestAFaultStands: a check that had found the shim at fault, and then read what was not
// there, was Broken: B41 blamed the harness for a Start that succeeded.
func TestAFaultStands(t *testing.T) {
	r := suite.Result(t, suite.Config(t).Shim, "fault", 30*time.Second, func(c *harness.Case) {
		c.Errorf("a fault")
		panic("its consequence")
	})
	if r.Verdict != harness.Fail || len(r.Messages) != 2 {
		t.Errorf("%s: %q, want a failure with both messages", r.Verdict, r.Messages)
	}
}

func TestLifecycle(t *testing.T) {
	for _, g := range launch.Generations() {
		g.Strict = false // what strictness finds is a row of the catalogue
		t.Run(g.Name, func(t *testing.T) {
			suite.Run(t, "g"+g.Name, 30*time.Second, lifecycle(harness.Options{Generation: &g}))
		})
	}
	t.Run("socket", func(t *testing.T) {
		suite.Run(t, "socket", 30*time.Second, lifecycle(harness.Options{OwnSocket: true}))
	})
	t.Run("fakerunc", func(t *testing.T) {
		suite.Run(t, "fake", 30*time.Second, lifecycle(harness.Options{Fake: []fakeruntime.Rule{}}))
	})
	t.Run("hostpid", func(t *testing.T) {
		suite.Run(t, "hostpid", 30*time.Second, lifecycle(harness.Options{Container: harness.Container{HostPid: true}}))
	})
}

// TestOpenGateSurvivesTheCollector: B33 and B33c failed in one of thirty runs,
// on any shim, because the collector had closed the gate before the process came.
func TestOpenGateSurvivesTheCollector(t *testing.T) {
	suite.Run(t, "gc", 30*time.Second, func(c *harness.Case) {
		b := c.Fixture(harness.Options{})
		c.Need(b.Gate("go").Open(), "open gate")
		path := filepath.Join(b.Rootfs, "go")
		for range 3 { // the finalizer of an os.File takes one, and runs after it
			runtime.GC()
			closed := false
			for end := time.Now().Add(100 * time.Millisecond); !closed && time.Now().Before(end); {
				f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0) // ENXIO without a reader
				closed = err != nil
				_ = f.Close() // nil is refused
			}
			if closed {
				c.Fatalf("the gate is closed")
			}
		}
	})
}

// TestTemporaryFilesAreTheCases: shimverify left what killed shims have in TMPDIR.
func TestTemporaryFilesAreTheCases(t *testing.T) {
	suite.Run(t, "tmp", 30*time.Second, func(c *harness.Case) {
		b := c.Fixture(harness.Options{})
		for name, want := range map[string]string{"TMPDIR": c.Dir, "XDG_RUNTIME_DIR": ""} {
			if got, ok := procfs.Env(b.Shim.Pid, name); !ok || got != want {
				c.Errorf("the shim's %s is %q, want %q", name, got, want)
			}
		}
	})
}

// TestSweepEndsALeaderlessProcess: one whose first thread has ended has no
// environment of its own in /proc and the state of a zombie, and ran on for ever.
func TestSweepEndsALeaderlessProcess(t *testing.T) {
	pid := 0
	suite.Run(t, "leaderless", time.Minute, func(c *harness.Case) {
		b := c.Fixture(harness.Options{Bare: true, Fake: []fakeruntime.Rule{{
			Verb: "create", Steps: []fakeruntime.Step{{Op: fakeruntime.Spawn, N: 1, Text: "leaderless"}, {Op: fakeruntime.Real}},
		}}})
		b.Up()
		pid = b.Fake.Spawned()[0]
		c.Await(5*time.Second, "the first thread has ended", func() bool {
			p, ok := procfs.Read(pid)
			return ok && p.State == 'Z' && p.Threads > 1
		})
	})
	if procfs.Alive(pid) {
		_ = unix.Kill(pid, unix.SIGKILL) // it is the test's
		t.Errorf("process %d lives on", pid)
	}
}
