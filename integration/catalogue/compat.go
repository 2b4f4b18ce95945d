// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/api/types"
	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakedaemon/publish"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/launch"
	"containerd-shim.v1/integration/harness/procfs"
)

const pairing = "contract: a pairing of daemon and shim that breaks"

var compatChecks = []Check{
	{ID: "C02", Name: "daemon up to 1.2.8", Incident: pairing, Asserts: "every OK response carries a status, through a whole life", Run: strictLife},
	{ID: "C06", Name: "shim killed below a daemon that reads its stdout", Incident: pairing, Asserts: "no child of the shim keeps its stdout or stderr open", Run: stdoutLeak},
	{ID: "C07", Name: "error of runc that is not UTF-8", Incident: pairing, Asserts: "an error response, and the connection stays", Run: badUTF8},
	{ID: "C09", Name: "rootfs of two mounts, one with a target", Incident: pairing, Asserts: "both are mounted, the second below the rootfs, and unmounted when Delete answers", Run: mountTarget},
	{ID: "C17", Name: "socket file", Incident: pairing, Asserts: "the shim does not remove its socket when it ends", Run: socketStays},
	{ID: "C19", Name: "publish binary under another name", Incident: pairing, Asserts: "after docker's package upgrade the exit still arrives", Run: otherBinary},
	{ID: "C25", Name: "unknown method", Incident: pairing, Asserts: "an answer, NotFound or Unimplemented", Run: unknownMethod},
	{ID: "C30", Name: "flags of runc", Incident: pairing, Asserts: "--root with the namespace, --log, --log-format json, and no --criu", Run: runcFlags},
}

func strictLife(c *harness.Case) {
	g := launch.Containerd1_0
	b := c.Fixture(harness.Options{Generation: &g})
	must := func(err error, what string) {
		if errors.Is(c.Prompt(err), client.ErrNoStatus) {
			c.Fatalf("%s: %v", what, err)
		}
		c.Must(err, what)
	}
	must(b.Create(), "Create")
	must(start(b, b.ID), "Start")
	must(execNew(b, ""), "Exec")
	must(start(b, "new"), "Start of the exec")
	for what, call := range map[string]func(*harness.Fixture, string) error{
		"State": stateOf, "ListPids": list, "ShimInfo": info, "Update": update, "CloseIO": closeIO, "ResizePty": resize,
	} {
		must(call(b, b.ID), what)
	}
	must(b.Pause(), "Pause")
	must(b.Resume(), "Resume")
	must(b.Kill("new", 9, false), "Kill of the exec")
	must(waitFor(b, "new"), "Wait of the exec")
	must(delProc(b, "new"), "DeleteProcess")
	must(b.Kill(b.ID, 9, false), "Kill")
	must(waitFor(b, b.ID), "Wait")
	must(del(b, ""), "Delete")
}

func stdoutLeak(c *harness.Case) {
	g := launch.Containerd1_4_1
	b := upWith(c, harness.Options{Generation: &g})
	b.MustExec("e", harness.IO{}, "sleep")
	c.Need(unix.Kill(b.Shim.Pid, unix.SIGKILL), "kill the shim")
	_, err := b.Shim.ExitCode(3 * time.Second)
	c.Must(err, "end of the shim as the daemon sees it, with its container alive")
	if !procfs.Alive(b.InitPid) {
		c.Errorf("the container is dead")
	}
}

func badUTF8(c *harness.Case) {
	b := upFaked(c, on("kill", fakeruntime.Step{Op: fakeruntime.Byte, N: 0xff}, exits(1, " is not UTF-8")))
	err := c.Prompt(b.Kill(b.ID, 10, false))
	if err == nil || !strings.Contains(err.Error(), "is not UTF-8") {
		c.Errorf("Kill: %v, want an error with runc's text", err)
	}
	lives(c, b)
}

func mountTarget(c *harness.Case) {
	b := c.Fixture(harness.Options{Container: harness.Container{
		NoRootfs: true, Edit: func(s *specs.Spec) { s.Root.Path = "rootfs" },
	}})
	mounted := filepath.Join(b.Bundle, "rootfs")
	c.Need(os.Mkdir(mounted, 0o711), "make directory")
	c.Need(os.Mkdir(filepath.Join(b.Rootfs, "sub"), 0o711), "make directory")
	r := b.CreateRequest(harness.IO{})
	r.Rootfs = []*types.Mount{
		{Type: "bind", Source: b.Rootfs, Options: []string{"rbind", "rw"}},
		{Type: "tmpfs", Source: "tmpfs", Target: "/sub", Options: []string{"size=64k"}},
	}
	_, err := b.CreateTask(r)
	c.Must(err, "Create")
	got := procfs.MountsUnder(mounted)
	if want := filepath.Join(mounted, "sub"); len(got) != 2 || got[1] != want {
		c.Errorf("mounts %v, want %s and %s", got, mounted, want)
	}
	b.MustStart(b.ID)
	b.Die()
	c.Must(del(b, ""), "Delete")
	if left := procfs.MountsUnder(mounted); len(left) > 0 {
		c.Errorf("mounts after Delete: %v", left)
	}
}

func socketStays(c *harness.Case) {
	b := up(c)
	c.Need(unix.Kill(b.Shim.Pid, unix.SIGTERM), "signal the shim")
	_, err := b.Shim.ExitCode(10 * time.Second)
	c.Must(err, "SIGTERM")
	if _, err := os.Stat(b.Shim.Address); err != nil {
		c.Errorf("the socket: %v", err)
	}
}

func otherBinary(c *harness.Case) {
	b := up(c)
	b.Daemon.OnlyBinary()
	b.Daemon.Rename(publish.Renamed)
	b.MustExec("e", harness.IO{}, "exit:0")
	b.AwaitExit(retryTime, "e")
}

func unknownMethod(c *harness.Case) {
	b := up(c)
	err := c.Prompt(b.Method("Frobnicate", &task.WaitRequest{ID: b.ID}))
	if got := code(err); got != codes.NotFound && got != codes.Unimplemented {
		c.Errorf("unknown method: %v (%v), want NotFound or Unimplemented", got, err)
	}
	lives(c, b)
}

func runcFlags(c *harness.Case) {
	g := launch.Containerd1_0
	g.Strict = false
	b := upWith(c, harness.Options{Generation: &g, Fake: []fakeruntime.Rule{}})
	b.MustExec("e", harness.IO{}, "exit:0")
	for _, call := range b.Fake.Calls("") {
		line := strings.Join(call.Args, " ")
		for _, want := range []string{"--root " + b.Root + " ", "--log ", "--log-format json "} {
			if !strings.Contains(line, want) {
				c.Errorf("runc %s, want %s in it", line, want)
			}
		}
		if strings.Contains(line, "--criu") {
			c.Errorf("runc %s", line)
		}
	}
}
