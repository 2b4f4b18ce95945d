// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// askTime bounds one exchange: the new program checks the state first, and then
// starts.
const askTime = time.Minute

// ours asks a shim of this project to exchange its own program: it is not traced,
// and tells why if it cannot.
func (u *upgrader) ours(ctx context.Context, s *scan.Shim) upgraded {
	if !u.yes {
		return upgraded{result: resultPossible, todo: u.command(s)}
	}
	start := u.now()
	for {
		version, err := probe.Upgrade(ctx, u.proc, s, u.binary, askTime)
		took := u.now().Sub(start)
		switch {
		case err == nil && takeover.Runs(s, u.binary):
			return upgraded{result: resultDone, version: version, took: took}
		case err == nil:
			err = fmt.Errorf("it answers, and does not run %s", u.binary)
		}
		if !scan.Alive(u.proc, s.PID, s.StartTicks) {
			return upgraded{result: resultUnanswered, err: fmt.Errorf("the shim has ended: %w", err)}
		}
		if !probe.Busy(err) || took > u.patience || ctx.Err() != nil {
			return u.failed(s, err)
		}
	}
}
