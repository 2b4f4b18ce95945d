// SPDX-License-Identifier: Apache-2.0

// Command fakerunc plays runc, or the publisher of events, for the shims of
// shimctl's tests. It is a small static program: the test binary itself takes
// a second to start under the race detector.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// publisher is the name by which it is called when it plays that part.
const publisher = "fake-publisher"

// leader is its name when it plays a process whose first thread has ended: a
// zombie by its state, under a shim that has nothing to reap.
const leader = "fake-leader"

// startedFile lists, beside fake runc, every process that it has left.
const startedFile = "started"

// left is how many processes create leaves to the shim: twice what a
// subscriber's channel of 32 takes.
const left = 80

func main() {
	switch filepath.Base(os.Args[0]) {
	case leader:
		leave()
	case publisher:
		_, _ = io.Copy(io.Discard, os.Stdin) // the event; a publisher that closes early breaks the shim's pipe
		waitAtGate("publish")
		return
	}
	if err := playRunc(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// playRunc does just enough for the shim: processes that live, pid files, and
// an exec that waits at a gate. It runs in the bundle, as the shim does.
func playRunc(args []string) error {
	verb, pidFile := "", ""
	for i, a := range args {
		switch {
		case a == "--pid-file" && i+1 < len(args):
			pidFile = args[i+1]
		case verb == "" && isVerb(a):
			verb = a
		}
	}
	waitAtGate(verb)
	switch verb {
	case "create":
		group, err := orphans()
		if err != nil {
			return err
		}
		if err := os.WriteFile("orphans.pgid", []byte(strconv.Itoa(group)), 0o600); err != nil {
			return err
		}
		if err := sleeper(pidFile); err != nil {
			return err
		}
		// The daemon's own runc, for a dead shim, does not run in the bundle.
		return os.WriteFile(remembered(args), []byte(strconv.Itoa(pidOf(pidFile))), 0o600)
	case "exec":
		return sleeper(pidFile)
	case "state":
		return json.NewEncoder(os.Stdout).Encode(map[string]any{"id": "x", "pid": pidOf("init.pid"), "status": "running"})
	case "kill", "delete":
		if pid := pidOf(remembered(args)); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is what we want
		}
	}
	return nil
}

// remembered is the file with the pid of a container's init, beside fake runc.
// The container's id is a word of the command line that no other is.
func remembered(args []string) string {
	id := args[len(args)-1]
	if len(args) > 1 && isSignal(id) {
		id = args[len(args)-2] // runc kill ID SIGNAL
	}
	return filepath.Join(filepath.Dir(os.Args[0]), id+".init")
}

func isSignal(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

// waitAtGate stays until the test has opened the verb's gate and closed it
// again, when there is such a gate in the bundle.
func waitAtGate(verb string) {
	if gate, err := os.Open("gate-" + verb); err == nil {
		_, _ = io.Copy(io.Discard, gate)
	}
}

func isVerb(a string) bool {
	switch a {
	case "create", "start", "exec", "state", "kill", "delete", "ps", "pause", "resume", "update":
		return true
	}
	return false
}

// orphans starts sleepers in one process group, to be killed at one moment.
func orphans() (group int, err error) {
	for range left {
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		if group == 0 {
			group = cmd.Process.Pid
		}
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self)
	cmd.Args[0] = leader
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
	return group, cmd.Start()
}

// leave ends the first thread, on which main runs, and nothing else.
func leave() {
	go func() { time.Sleep(time.Hour) }() // another thread is there, and the Go runtime's own
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

// init keeps main on the first thread.
func init() { runtime.LockOSThread() }

func sleeper(pidFile string) error {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout = os.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	if f, err := os.OpenFile(filepath.Join(filepath.Dir(os.Args[0]), startedFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
		fmt.Fprintln(f, cmd.Process.Pid)
		_ = f.Close()
	}
	return os.WriteFile(pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
}

func pidOf(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}
