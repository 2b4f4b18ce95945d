// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"fmt"
	"os"
	"slices"
	"time"
)

// Runtime is a living child of a shim that is an OCI runtime at work.
type Runtime struct {
	Process
	Age time.Duration `json:"age_ns"`
	// Verb and Container say what it does and to which container, which for a v2 shim
	// may be any of its group; both are "" if its arguments do not tell.
	Verb      string `json:"verb,omitempty"`
	Container string `json:"container,omitempty"`
}

// String is such as "runc 4711, kill of web, for 1m3s".
func (r Runtime) String() string {
	does := ""
	if r.Verb != "" {
		does = fmt.Sprintf(", %s of %s", r.Verb, r.Container)
	}
	return fmt.Sprintf("%s %d%s, for %v", r.Comm, r.PID, does, r.Age.Round(time.Second))
}

// runtimes are the names under which OCI runtimes' commands run.
var runtimes = []string{"runc", "docker-runc", "crun", "youki", "runsc"}

// isRuntime reports whether a shim's child has a runtime's name, or the arguments that go-runc gives
// one: Docker puts a script before one with runtimeArgs. The container's processes are in other mount
// namespaces, mostly, and are no runtimes whatever their names. Their arguments are not read: the memory
// may be a file's that never comes.
func (t *tree) isRuntime(shim int, child *entry) bool {
	own, err := os.Readlink(t.file(shim, "ns/mnt"))
	its, itsErr := os.Readlink(t.file(child.PID, "ns/mnt"))
	if err != nil || itsErr != nil || own != its {
		return false
	}
	if slices.Contains(runtimes, child.Comm) {
		return true
	}
	argv := t.cmdline(child.PID)
	return slices.Contains(argv, "--root") && slices.Contains(argv, "--log")
}

// verbs are the commands of a runtime that shims use.
var verbs = []string{"create", "start", "exec", "kill", "delete", "pause", "resume", "update", "checkpoint", "restore", "ps", "state", "events"}

// runtime reads what a process with the arguments does. The container's id comes last,
// but for kill, where a signal follows it.
func (t *tree) runtime(e *entry) Runtime {
	r := Runtime{Process: e.Process}
	if up := t.up(); up > e.StartTicks {
		r.Age = time.Duration(up-e.StartTicks) * time.Second / TicksPerSecond
	}
	argv := t.cmdline(e.PID)
	at := slices.IndexFunc(argv, func(arg string) bool { return slices.Contains(verbs, arg) })
	if at < 0 {
		return r
	}
	last := len(argv) - 1
	if argv[at] == "kill" {
		last--
	}
	if last > at && identifier(argv[last]) {
		r.Verb, r.Container = argv[at], argv[last]
	}
	return r
}
