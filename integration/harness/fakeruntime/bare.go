// SPDX-License-Identifier: Apache-2.0

package fakeruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/guest"
	"containerd-shim.v1/integration/harness/procfs"
)

// bare plays a runtime without real runc behind it: a container is one process
// that sleeps, on the host, with no root file system. An exec does the steps in
// its arguments if it is a guest.Init, and sleeps otherwise. That is enough for
// tests of the shim's state, and needs neither a bundle nor an image.
func (p player) bare() error {
	switch p.inv.verb {
	case "create", "restore":
		pid, err := p.leave("sleep")
		if err != nil {
			return err
		}
		init, _ := procfs.Read(pid) // of one that has ended already there is no start time, and nothing to kill
		return os.WriteFile(p.initFile(), fmt.Appendf(nil, "%d %d", pid, init.StartTime), 0o600)
	case "exec":
		_, err := p.leave(p.inv.steps()...)
		return err
	case "state":
		return json.NewEncoder(os.Stdout).Encode(map[string]any{"id": p.inv.id(), "pid": p.init(), "status": "running"})
	case "ps":
		return json.NewEncoder(os.Stdout).Encode([]int{p.init()})
	case "kill", "delete":
		return p.killInit()
	}
	return nil
}

// killInit kills the container's init, if it is still there: after its end its pid may be that of
// any process of the host.
func (p player) killInit() error {
	pids := readPids(p.initFile())
	if len(pids) != 2 {
		return nil
	}
	err := procfs.Process{Pid: pids[0], StartTime: uint64(pids[1])}.Signal(unix.SIGKILL)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// leave starts a process with the call's streams, which the shim inherits when
// this call ends, and writes the pid file.
func (p player) leave(steps ...string) (pid int, err error) {
	cmd := sleeper(steps...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.inv.console != "" {
		master, terminal, err := p.terminal()
		if err != nil {
			return 0, err
		}
		defer master.Close()
		defer terminal.Close()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}
	if err := p.start(cmd); err != nil {
		return 0, err
	}
	return cmd.Process.Pid, os.WriteFile(p.inv.pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644)
}

// terminal makes one, and sends its master to the console socket as runc does.
func (p player) terminal() (console.Console, *os.File, error) {
	master, path, err := console.NewPty()
	if err != nil {
		return nil, nil, err
	}
	terminal, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err == nil {
		err = p.send(master)
	}
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	return master, terminal, nil
}

func (p player) send(master console.Console) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p.inv.console})
	if err != nil {
		return err
	}
	_, _, err = conn.WriteMsgUnix([]byte(master.Name()), unix.UnixRights(int(master.Fd())), nil)
	return errors.Join(err, conn.Close())
}

// initFile has the pid of the container's init. A daemon's own call of the
// runtime, for a dead shim, does not run in the bundle.
func (p player) initFile() string { return filepath.Join(p.dir, p.inv.id()+".init") }

// init is that pid, 0 if there is none.
func (p player) init() int {
	pids := readPids(p.initFile())
	if len(pids) == 0 {
		return 0
	}
	return pids[0]
}

// id is the container's: the last argument, but for the signal of kill.
func (inv invocation) id() string {
	id := inv.args[len(inv.args)-1]
	if _, err := strconv.Atoi(id); inv.verb == "kill" && err == nil && len(inv.args) > 1 {
		id = inv.args[len(inv.args)-2]
	}
	return id
}

// steps are those of an exec's process.
func (inv invocation) steps() []string {
	var process struct{ Args []string }
	data, err := os.ReadFile(inv.process)
	if err == nil {
		err = json.Unmarshal(data, &process)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakeruntime: process:", err)
	}
	if len(process.Args) > 1 && strings.TrimPrefix(process.Args[0], "/") == guest.InitName {
		return process.Args[1:]
	}
	return []string{"sleep"}
}
