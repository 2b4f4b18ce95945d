// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
)

var initDeathChecks = []Check{
	{ID: "B49", Name: "bundle without a rootfs directory",
		Incident: "containerd #3148: the task cannot be deleted",
		Asserts:  "Delete succeeds",
		Run:      noRootfs},
	survivors("B50", "init of a host-pid container dies", harness.Container{HostPid: true}, false),
	survivors("B50b", "init in a joined pid namespace dies", harness.Container{}, false),
	survivors("B50c", "init dies and config.json is broken", harness.Container{HostPid: true}, true),
	{ID: "B50d", Name: "init dies and config.json is gone",
		Incident: "containerd #3559: an exit waits for what cannot be read",
		Asserts:  "the exit is published",
		Run:      noConfig},
	{ID: "B51", Name: "Kill of a paused container",
		Incident: "containerd #2773, #1111: a container that died paused cannot be deleted",
		Asserts:  "the exit is published, State says STOPPED, Delete succeeds",
		Run:      with(diesPaused, false)},
	{ID: "B51b", Name: "paused container dies by another hand",
		Incident: "containerd #2773: the loop with docker commit",
		Asserts:  "the exit is published, State says STOPPED, Delete succeeds",
		Run:      with(diesPaused, true)},
	{ID: "B51c", Name: "init dies while runc pause runs",
		Incident: "containerd #2773",
		Asserts:  "the exit is published, State says STOPPED, Delete succeeds",
		Run:      diesPausing},
	{ID: "B52", Name: "State and runc state",
		Incident: "containerd #3711, moby #39102, kubernetes #82440: CPU of every State, and a hang when runc hangs",
		Asserts:  "20 States start no runc and answer while `runc state` would hang",
		Run:      stateForks},
	{ID: "B63", Name: "runc that ignores kill --all",
		Incident: "containerd #11231, runc #3825: with runc 1.2 a stop reaches init only",
		Asserts:  "Kill with all reaches a child that init does not pass the signal to",
		Run:      killAllIgnored},
}

func noRootfs(c *harness.Case) {
	b := upWith(c, harness.Options{Container: harness.Container{NoRootfs: true}})
	b.Die()
	deletes(c, b)
}

func survivors(id, name string, ct harness.Container, broken bool) Check {
	return Check{ID: id, Name: name,
		Incident: "containerd #2597, #3149, #4063: processes of a dead container live on",
		Asserts:  "its other processes are killed",
		Run:      func(c *harness.Case) { initDies(c, ct, broken) }}
}

// initDies kills init, and checks that its child is killed, too. A container that does
// not share the host's pid namespace joins that of another container.
func initDies(c *harness.Case, ct harness.Container, broken bool) {
	ct.Args = []string{"children:1", "sleep"}
	if !ct.HostPid {
		owner := c.Fixture(harness.Options{})
		owner.Up()
		ct.PidPath = procfs.File(owner.InitPid, "ns/pid")
	}
	b := upWith(c, harness.Options{Container: ct})
	child := onlyChild(c, b.InitPid)
	if broken {
		c.Need(os.WriteFile(filepath.Join(b.Bundle, "config.json"), []byte("{"), 0o600), "break config.json")
	}
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	b.AwaitExit(10*time.Second, b.ID)
	b.Gone(5*time.Second, "the rest of the container", child)
}

func noConfig(c *harness.Case) {
	b := up(c)
	c.Need(os.Remove(filepath.Join(b.Bundle, "config.json")), "remove config.json")
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	b.AwaitExit(10*time.Second, b.ID)
}

func diesPaused(c *harness.Case, otherHand bool) {
	b := upFaked(c)
	c.Must(b.Pause(), "Pause")
	if otherHand {
		c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
		b.Thaw()
	} else {
		c.Must(b.Kill(b.ID, 9, false), "Kill")
	}
	b.AwaitExit(10*time.Second, b.ID)
	stopped(c, b, b.ID, b.InitPid)
	deletes(c, b)
}

func diesPausing(c *harness.Case) {
	b := upFaked(c, gated("pause", "", "slow"))
	pause := heldAt(c, b, "slow", "Pause", func() error { return b.Within(time.Minute).Pause() })
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	b.Gone(5*time.Second, "init", b.InitPid)
	open(c, b.Fake.Gate("slow"))
	c.Logf("Pause: %v", c.Prompt(pause.Await(10*time.Second)))
	b.AwaitExit(10*time.Second, b.ID)
	stopped(c, b, b.ID, b.InitPid)
	deletes(c, b)
}

func stateForks(c *harness.Case) {
	b := upFaked(c, gated("state", "", "hang"))
	calls := len(b.Fake.Calls(""))
	for range 20 {
		answers(c, b, b.ID)
	}
	if n := len(b.Fake.Calls("")) - calls; n != 0 {
		c.Errorf("20 States started runc %d times", n)
	}
}

func killAllIgnored(c *harness.Case) {
	b := c.Fixture(harness.Options{
		Container: harness.Container{Args: []string{"children:1", "ignore:15", "touch:/ready", "sleep"}},
		Fake: []fakeruntime.Rule{
			on("--version", fakeruntime.Step{Op: fakeruntime.Print, Text: "runc version 1.2.0\nspec: 1.2.0\n"}, exits(0)),
			on("kill", fakeruntime.Step{Op: fakeruntime.Without, Text: "--all"}, fakeruntime.Step{Op: fakeruntime.Without, Text: "-a"}, runReal),
		},
	})
	b.Up()
	child := onlyChild(c, b.InitPid)
	c.Await(5*time.Second, "init ignores the signal", func() bool {
		_, err := os.Stat(filepath.Join(b.Bundle, "rootfs", "ready"))
		return err == nil
	})
	c.Must(b.Kill(b.ID, 15, true), "Kill with all")
	b.Gone(5*time.Second, "init's child", child)
	if !procfs.Alive(b.InitPid) {
		c.Errorf("init, which ignores the signal, is dead")
	}
}
