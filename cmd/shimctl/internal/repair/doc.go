// SPDX-License-Identifier: Apache-2.0

// Package repair has the rules for acting on a wedged shim, the ledger of what was
// done, and the last resort: it kills the shim and verifies that this healed
// something. The exchange in place is package takeover's.
//
// What a kill does was measured with containerd 1.1, 1.6 and 1.7 and docker 20.10.
// With the daemon up, SIGKILL of the shim makes the daemon end the container (exit
// status 137) and clean up, and init reaps what the shim had not. With the daemon
// down the container would keep running unsupervised, so nothing is killed then.
// SIGTERM is of no use: the goroutine that reads it is the one that is stuck.
package repair

import (
	"context"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// Daemon is what a repair needs of containerd.
type Daemon interface {
	Version(context.Context) (string, error)
	TaskGone(ctx context.Context, namespace, id string, pid int) (bool, error)
}

// Policy bounds what repair may do by itself.
type Policy struct {
	Cooldown time.Duration // between two repairs on this host
	PerHour  int
	PerRun   int
	Reasons  []string // the only reasons to act on; empty for all that are proven
	// Unproven allows acting on a wedge that only time has shown, without a dump.
	Unproven bool
	Verify   time.Duration // for everything to be gone afterwards
}

// Default is the policy of an unattended run.
var Default = Policy{Cooldown: 10 * time.Minute, PerHour: 3, PerRun: 1, Verify: 30 * time.Second}

// Case is a shim with the verdict on it.
type Case struct {
	Shim   scan.Shim
	Result health.Result
}

// Lost says what the kill costs.
func (c *Case) Lost() string {
	return "container " + c.Shim.Name() + " ends with exit status 137; its exec sessions and unread output are lost, its files are not. " +
		"A restart policy or the kubelet starts it again. Other containers are not touched."
}
