// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/rounds"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// askTime bounds one exchange: the new program checks the state first, and then
// starts.
const askTime = time.Minute

// busyPause is the time between two attempts at a shim that is at work: it stands
// still for a moment at each.
const busyPause = 100 * time.Millisecond

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
		runs := takeover.Runs(s, u.binary)
		if err == nil && runs {
			err = takeover.CheckRunning(s, u.binary, u.sum)
		}
		switch {
		case err == nil && runs:
			return upgraded{result: resultDone, tried: true, version: version, took: took}
		case err == nil:
			err = fmt.Errorf("it answers, and does not run %s", u.binary)
		case probe.Busy(err) && !scan.Alive(u.proc, s.PID, s.StartTicks):
			return upgraded{result: resultEnded} // it was told to, and said so
		case runs || !scan.Alive(u.proc, s.PID, s.StartTicks) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
			return upgraded{result: resultUnanswered, tried: true, err: err}
		}
		if !probe.Busy(err) || took > u.patience || !rounds.Pause(ctx, busyPause) {
			r := u.failed(ctx, s, err)
			r.tried = true
			return r
		}
	}
}
