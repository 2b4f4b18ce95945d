// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"time"

	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"
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
	// Limits are those of the processes, Streams those of their streams.
	Limits  Limits
	Streams stdio.Limits
	// Streaming is shut while the streams of all processes have to stand still;
	// nil if that never happens.
	Streaming *gate.Gate
}

// Limits bound waits.
type Limits struct {
	// Kill bounds "runc kill", "ps" and "state", and the "resume" of a dead
	// container, each: they wait for nothing but the kernel.
	Kill time.Duration
	// Exit bounds the wait for the exit of a process that was just killed.
	Exit time.Duration
	// Start bounds the wait for a runtime that was at work on a start when the
	// program was exchanged.
	Start time.Duration
}

// DefaultLimits are those of a shim.
func DefaultLimits() Limits {
	return Limits{Kill: 10 * time.Second, Exit: 10 * time.Second, Start: 10 * time.Minute}
}
