// SPDX-License-Identifier: Apache-2.0

// Package health decides from samples whether a shim is healthy.
//
// A shim is Wedged only if all of this is true of two samples at least a minute
// apart: it is the same process, it runs (it is not stopped, traced, frozen or in
// state D), it is older than a minute, it answers ShimInfo, none of its runc
// commands is at work, and State timed out in both, or a child stays unreaped.
// Anything less is Suspect. A goroutine dump with a closed cycle is proof at once.
//
// The package is pure except for [Load] and [Memory.Store].
package health

import "time"

// Verdict is the outcome for one shim.
type Verdict string

// The verdicts, best first.
const (
	Healthy Verdict = "Healthy"
	Suspect Verdict = "Suspect"
	Wedged  Verdict = "Wedged"
)

// The reasons for a verdict. A confirmed wedge has the reason of the dump's
// finding.
const (
	Stopped       = "Stopped"       // SIGSTOP: comes back with SIGCONT
	Traced        = "Traced"        // a debugger holds it
	Frozen        = "Frozen"        // its cgroup is frozen
	Blocked       = "Blocked"       // a thread is in state D: storage, not the shim
	Starting      = "Starting"      // younger than a minute
	RuncBlocked   = "RuncBlocked"   // a runc at work holds the lock: look at that one
	Unresponsive  = "Unresponsive"  // not even ShimInfo: starved, or worse; never repaired
	Unreachable   = "Unreachable"   // no socket, or it refuses us
	StateTimeout  = "StateTimeout"  // ShimInfo answers, State does not
	ZombiesRemain = "ZombiesRemain" // children stay unreaped
	Leaked        = "Leaked"        // its containerd has no such task: nobody will end the shim
	Undeleted     = "Undeleted"     // its container has ended, and nobody deletes it
)

// Bounds of the judgement.
const (
	// Apart is the least time between the two samples of a wedge. Execs make State
	// of a busy shim slow for seconds, and one-second sends (B02) for longer.
	Apart = time.Minute
	// Young is the age below which a shim is only starting.
	Young = time.Minute
	// Undelete is how long an ended container may stay undeleted. Docker and CRI
	// delete it at once; a user of ctr may forget to.
	Undelete = 3 * time.Minute
	// AskState is how often State is asked of a shim without any sign.
	AskState = 5 * time.Minute
	// AskWedged is how often State is asked of a shim that is wedged by time only.
	AskWedged = 10 * time.Minute
)
