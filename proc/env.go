// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"time"

	"containerd-shim/proc/stdio"
	"containerd-shim/reaper"
)

// Env is what the processes of one shim share. It does not change once the
// first process exists.
type Env struct {
	// Namespace is containerd's namespace, for loggers.
	Namespace string
	// Bundle is the shim's working directory, which containerd makes the
	// container's bundle.
	Bundle string
	// WorkDir is where CRIU may put large files.
	WorkDir string
	// Reaper delivers exits.
	Reaper  *reaper.Reaper
	Monitor *reaper.Monitor
	// NewRuntime returns the runtime that the given command (a name or path,
	// as in CreateTaskRequest.runtime) stands for.
	NewRuntime func(command string) Runtime
	// Streams are the limits of the processes' streams.
	Streams stdio.Limits
}

const (
	// KillTimeout bounds "runc kill", "ps" and the "resume" of a dead
	// container: they wait for nothing but the kernel.
	KillTimeout = 10 * time.Second
	// exitWait bounds the wait for the exit of a process that was just killed.
	exitWait = 10 * time.Second
)
