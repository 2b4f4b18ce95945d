// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
)

var scarceChecks = []Check{
	{ID: "F04", Name: "no free inode in the bundle's file system",
		Incident: "every call of the runtime wanted a log file: Kill failed, and the container lived",
		Asserts:  "Kill and Delete work",
		Run:      with(spoiltBundle, takeInodes)},
	{ID: "F04b", Name: "the bundle's file system is read-only",
		Incident: "a disk error remounts a state directory that is no tmpfs",
		Asserts:  "Kill and Delete work",
		Run: func(c *harness.Case) {
			spoiltBundle(c, func(dir string) error { return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") })
		}},
	{ID: "F05", Name: "the runtime's binary is gone",
		Incident: "an upgrade moves the runtime, and no container can be killed any more",
		Asserts:  "Kill works; Delete does once the binary is back",
		Run:      noRuntime},
	room("F16", 0),
	room("F16b", 1),
	room("F16c", 2),
	{ID: "F17", Name: "TMPDIR is full",
		Incident: "/tmp is full: every exec fails",
		Asserts:  "an exec and a terminal's exec start",
		Run:      fullTemp},
	{ID: "F22", Name: "half a pid file",
		Incident: "runc is killed, or the disk is full, before it renames its pid file: that exec id fails for ever (\"file exists\")",
		Asserts:  "the exec starts",
		Run:      halfPidFile},
	killedRunc("F24", "pause"),
	killedRunc("F24b", "resume"),
}

func room(id string, spare int) Check {
	return Check{ID: id, Load: Heavy, Name: fmt.Sprintf("a limit of processes with room for %d more", spare),
		Incident: "the shim dies (\"failed to create new OS thread\"), and its container is killed by the daemon",
		Asserts:  "it lives, whatever is asked of it, and works once there is room",
		Run:      with(pidsLimit, spare)}
}

func killedRunc(id, verb string) Check {
	return Check{ID: id, Name: "runc " + verb + " is killed after it has done its work",
		Incident: "State and cgroup disagree, and neither pause nor resume is allowed any more",
		Asserts:  "State says what is, and the other verb works",
		Run:      with(killedVerb, verb)}
}

// takeInodes makes files in dir until no more can be made.
func takeInodes(dir string) error {
	for i := range 1000 {
		f, err := os.Create(filepath.Join(dir, "f"+strconv.Itoa(i)))
		if errors.Is(err, unix.ENOSPC) {
			return nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return errors.New("still free inodes")
}

func spoiltBundle(c *harness.Case, spoil func(dir string) error) {
	b := c.Fixture(harness.Options{BundleFS: "size=1m,nr_inodes=64", Container: harness.Container{NoRootfs: true}})
	c.Need(os.Mkdir(filepath.Join(b.Bundle, "rootfs"), 0o711), "make directory") // without it: B49
	b.Up()
	c.Need(spoil(b.Bundle), "spoil the bundle's file system")
	b.Die()
	deletes(c, b)
}

func noRuntime(c *harness.Case) {
	b := upFaked(c)
	aside := b.Path("aside")
	c.Need(os.Rename(b.Fake.Path, aside), "move the runtime")
	b.Die()
	c.Need(os.Rename(aside, b.Fake.Path), "move the runtime back")
	deletes(c, b)
}

// pidsLimit asks for execs, one after another and then many at once, while there is room
// for only spare more processes. The execs may fail, but the shim must stay alive.
func pidsLimit(c *harness.Case, spare int) {
	b := up(c)
	b.MustExec("before", harness.IO{}, "exit:0")
	b.AwaitExit(5*time.Second, "before")
	b.LimitPids(spare)
	exec := func(id string) {
		if err := b.Exec(id, harness.IO{}, "exit:0"); err == nil {
			_, _ = b.Client.Start(id)
			_, _ = b.DeleteProcess(id)
		}
	}
	for i := range 3 {
		exec("one" + strconv.Itoa(i))
	}
	for round := range 3 {
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() { exec(fmt.Sprintf("all%d-%d", round, i)) })
			all.Go(func() { _, _ = b.State(b.ID) })
		}
		all.Wait()
	}
	lives(c, b)
	b.LimitPids(-1)
	b.MustExec("after", harness.IO{}, "exit:0")
	b.AwaitExit(5*time.Second, "after")
	b.Die()
}

func fullTemp(c *harness.Case) {
	temp := filepath.Join(c.Dir, "tmp")
	c.Need(os.Mkdir(temp, 0o711), "make directory")
	c.Need(unix.Mount("tmpfs", temp, "tmpfs", 0, "size=4k,nr_inodes=1"), "mount a full file system")
	b := upWith(c, harness.Options{Env: []string{"TMPDIR=" + temp, "XDG_RUNTIME_DIR="}})
	b.MustExec("plain", harness.IO{}, "exit:3")
	b.AwaitStatus(5*time.Second, "plain", 3)
	out := b.Stream("out")
	b.MustExec("tty", harness.IO{Stdout: out.Path, Terminal: true}, "exit:4")
	b.AwaitStatus(5*time.Second, "tty", 4)
}

func halfPidFile(c *harness.Case) {
	b := up(c)
	c.Need(os.WriteFile(filepath.Join(b.Bundle, ".e1.pid"), nil, 0o600), "leave half a pid file")
	b.MustExec("e1", harness.IO{}, "exit:3")
	b.AwaitStatus(5*time.Second, "e1", 3)
}

func killedVerb(c *harness.Case, verb string) {
	b := upFaked(c, onOnce(verb, runReal, exits(137)))
	do, undo, want := b.Pause, b.Resume, "PAUSED"
	if verb == "resume" {
		c.Must(b.Pause(), "Pause")
		do, undo, want = b.Resume, b.Pause, "RUNNING"
	}
	c.Logf("%s: %v", verb, do())
	s, err := b.State(b.ID)
	c.Must(err, "State")
	if got := s.GetStatus().String(); got != want {
		c.Errorf("State: %s, want %s", got, want)
	}
	c.Must(undo(), "the other verb")
	if verb == "resume" {
		c.Must(b.Resume(), "Resume")
	}
	b.Die()
}
