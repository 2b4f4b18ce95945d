// SPDX-License-Identifier: Apache-2.0

// Package starter is the parent of a v2 shim. The shim's own `start` command forks it and
// ends, so that it would be a child of the host's init, of whose end nobody hears: the
// starter is a child subreaper, and ends as the shim does.
package starter

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/procfs"
)

// Name is the name under which the helper is the starter; its arguments are those of the
// command.
const Name = "v2start"

// Started is what the starter says on its stdout as soon as the command has ended.
type Started struct {
	Output []byte // of the command
	Pid    int    // of the shim; 0: none was forked
	Error  string // of the command
}

// Main runs the command, says how it went, waits for the shim, and returns its exit
// status; 128 and the signal's number if a signal has ended it.
func Main(argv []string) int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return say(Started{Error: fmt.Sprintf("become a subreaper: %v", err)})
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = os.Stdin
	out, err := cmd.Output()
	s := Started{Output: out}
	if err != nil {
		s.Error = err.Error()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			s.Error += ": " + string(exit.Stderr)
		}
	}
	for _, p := range procfs.Children(os.Getpid()) {
		s.Pid = p.Pid
	}
	if s.Pid == 0 {
		return say(s)
	}
	shim, err := os.FindProcess(s.Pid)
	if err != nil {
		return say(Started{Error: err.Error()})
	}
	if code := say(s); code != 0 {
		return code
	}
	state, err := shim.Wait()
	if err != nil {
		fmt.Fprintln(os.Stderr, "wait for the shim:", err)
		return 1
	}
	if status, ok := state.Sys().(unix.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// say closes stdout behind what it says, which its reader waits for.
func say(s Started) int {
	err := errors.Join(json.NewEncoder(os.Stdout).Encode(s), os.Stdout.Close())
	if err != nil {
		return 1
	}
	return 0
}
