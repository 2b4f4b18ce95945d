// SPDX-License-Identifier: Apache-2.0

// Package takeover exchanges the program of one of upstream's running shims for this
// project's, or says what that would do.
//
//	parent                       tracer, a child process
//	  look ──────────────────────► seize ► gate ► dump ► stop ► read ► let go
//	  check the new program
//	  on what was read
//	  swap ──────────────────────► seize ► gate ► dump ► stop ► read ► write the state ► execve
//	  wait for its answer
//
// The tracer is a process of its own, so that its parent can end it when it takes too long,
// and dies with its parent; see the package inplace for why that harms nobody. A shim that
// is busy at the moment is tried again for as long as the caller has patience.
package takeover

import (
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/upstream"
)

// Arg is the first argument of the child process.
const Arg = "__takeover"

// Request is what the tracer is to do.
type Request struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"starttime_ticks"`
	ID         string `json:"id"` // of the container
	// Wedged says that calls of the runtime that have begun will not end by themselves.
	Wedged bool `json:"wedged"`
	// StateFile is where the state is written, for the new program to read.
	StateFile string `json:"state_file"`
	// Binary is the new program; empty for a look only.
	Binary string `json:"binary,omitempty"`
	// DieAt is the step at which the tracer kills itself, for tests.
	DieAt string `json:"die_at,omitempty"`
}

// Outcome is what has come of it.
type Outcome struct {
	Report  *upstream.Report `json:"report,omitempty"`
	Swapped bool             `json:"swapped"`
	Stopped time.Duration    `json:"stopped_ns"` // how long the shim stood still
	// Answered is how long after it the new program answered.
	Answered time.Duration `json:"answered_ns,omitempty"`
	// Signals came to the old program while it stood still; see Swap.
	Signals []int  `json:"signals,omitempty"`
	Error   string `json:"error,omitempty"`
	Busy    bool   `json:"busy,omitempty"` // it may be possible in a moment
	Denied  bool   `json:"denied,omitempty"`
}
