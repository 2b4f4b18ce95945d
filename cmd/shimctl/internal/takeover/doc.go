// SPDX-License-Identifier: Apache-2.0

// Package takeover exchanges the program of a running shim of upstream's for this
// project's, or reports what that would do.
//
//	parent                       tracer, a child process
//	  look ──────────────────────► seize ► gate ► dump ► stop ► read ► let go
//	  check the new program
//	  on what was read
//	  swap ──────────────────────► seize ► gate ► dump ► stop ► read ► write the state ► execve
//	  wait for its answer
//
// The tracer is a process of its own, so that its parent can end it if it takes too long,
// and it dies with its parent; package inplace says why that does no harm. If a shim is
// busy, it is tried again for as long as the caller has patience. One that always has a call
// of the runtime underway would stay busy: after some attempts the tracer first holds what
// reads requests, until the calls that have begun are answered.
package takeover

import (
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/upstream"
)

// Arg is the first argument of the child process.
const Arg = "__takeover"

// Commit is the line that the tracer prints right before the commit of an exchange; see package
// inplace. However a tracer ends that has not printed it, nothing was done to the shim.
const Commit = "commit"

// Request says what the tracer is to do.
type Request struct {
	PID        int    `json:"pid"`             // of the shim
	StartTicks uint64 `json:"starttime_ticks"` // of the shim, as in /proc/PID/stat
	ID         string `json:"id"`              // of the container
	// Wedged says that calls of the runtime that have begun will not end by themselves.
	Wedged bool `json:"wedged"`
	// Drain says that calls to the shim are to be held until those that have begun have
	// ended, for a moment.
	Drain bool `json:"drain,omitempty"`
	// Dry says that Drain is never set: nobody's calls are held for a mere look.
	Dry bool `json:"dry,omitempty"`
	// StateFile is the path, as the shim sees it, to which the state is written.
	StateFile string `json:"state_file"`
	// Binary is the path of the new program, as the shim sees it; if it is empty no
	// program is exchanged.
	Binary string `json:"binary,omitempty"`
	// DieAt is the step at which the tracer kills itself, for tests.
	DieAt string `json:"die_at,omitempty"`
}

// Outcome is the result of a Request.
type Outcome struct {
	Report  *upstream.Report `json:"report,omitempty"` // nil if the shim was not read
	Swapped bool             `json:"swapped"`          // the new program runs
	Stopped time.Duration    `json:"stopped_ns"`       // how long the shim stood still
	// Held is how long calls to it were held, the time that it stood still included.
	Held time.Duration `json:"held_ns"`
	// Answered is how long it took the new program to answer.
	Answered time.Duration `json:"answered_ns,omitempty"`
	Drained  bool          `json:"drained,omitempty"` // Request.Drain was set
	// Error says why it was not done; empty if it was.
	Error  string `json:"error,omitempty"`
	Busy   bool   `json:"busy,omitempty"`   // it may be possible in a moment
	Traced bool   `json:"traced,omitempty"` // somebody else traces it
	// Refused says that waiting would not help: the build is not known, or a rule forbids it.
	Refused bool `json:"refused,omitempty"`
	Denied  bool `json:"denied,omitempty"` // it needs rights that this process lacks
}
