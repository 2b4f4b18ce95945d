// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/repair"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// askTime bounds one exchange: the new program checks the state first, and then
// starts.
const askTime = time.Minute

// ours asks a shim of this project to exchange its own program: it is not traced,
// and tells why if it cannot.
func (u *upgrader) ours(ctx context.Context, s *scan.Shim, name string) int {
	if why := repair.OptedOut(u.proc, s.PID); why != "" {
		fmt.Fprintf(u.out, "%s: not upgraded: %s\n", name, why)
		return exitSome
	}
	if err := takeover.CheckBinary(s, u.binary); err != nil {
		return u.failed(s, name, "cannot be upgraded", err)
	}
	if !u.yes {
		fmt.Fprintf(u.out, "%s: runs this project's shim, and would be asked to exchange its program by itself\n"+
			"  to do it: shimctl upgrade -yes -binary %s %d\n", name, u.binary, s.PID)
		return exitSome
	}
	start := u.now()
	for {
		version, err := probe.Upgrade(ctx, u.proc, s, u.binary, askTime)
		switch {
		case err == nil && takeover.Runs(s, u.binary):
			fmt.Fprintf(u.out, "%s: upgraded to %s in %s\n", name, version, u.now().Sub(start).Round(time.Millisecond))
			return exitOK
		case err == nil:
			err = fmt.Errorf("it answers, and does not run %s", u.binary)
		}
		if !scan.Alive(u.proc, s.PID, s.StartTicks) {
			u.failures++
			return u.fail(exitUnverified, "upgrade", fmt.Errorf("%s: the shim has ended: %w", name, err))
		}
		if !probe.Busy(err) || u.now().Sub(start) > u.patience || ctx.Err() != nil {
			return u.failed(s, name, "not upgraded", err)
		}
	}
}
