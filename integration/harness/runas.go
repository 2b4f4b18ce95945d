// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"os"
	"os/exec"
	"syscall"

	"containerd-shim.v1/integration/harness/guest"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/sweep"
)

// RunAs runs steps of the container's init on the host as another user, and
// returns the exit status.
func (c *Case) RunAs(uid uint32, steps ...string) int {
	cmd := exec.Command(c.Helper, steps...)
	cmd.Args[0] = guest.InitName
	cmd.Dir = "/"
	cmd.Env = []string{sweep.Mark + "=" + c.Dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.Need(err, "run as another user")
	}
	return cmd.ProcessState.ExitCode()
}

// OwnPid adds a process without a mark to the case: it is killed when the case ends.
func (c *Case) OwnPid(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.extra = append(c.extra, pid)
}

// LoggerDir is where the fixture's logger writes.
func (b *Fixture) LoggerDir() string { return b.path("logger") }

// Logger is the URI of a logging process; package logger has the modes.
func (b *Fixture) Logger(mode string) string {
	b.c.Need(os.MkdirAll(b.LoggerDir(), 0o700), "make directory")
	path := b.path(guest.LoggerName)
	b.c.Need(os.Symlink(b.c.Helper, path), "make logger")
	return "binary://" + path + "?" + mode + "=" + b.LoggerDir()
}

// killExtra kills the processes given to OwnPid that are still the same ones: they
// run the case's helper.
func (c *Case) killExtra() {
	for _, pid := range c.extra {
		p, ok := procfs.Read(pid)
		if exe, err := os.Readlink(procfs.File(pid, "exe")); ok && err == nil && exe == c.Helper {
			_ = p.Signal(syscall.SIGKILL) // it may have ended
		}
	}
}
