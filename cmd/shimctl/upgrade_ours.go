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
	// An exchange is not cut short if the caller gives up: nobody would know how it ended.
	whole, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	containerFirst := u.watch(whole, s)
	start := u.now()
	for {
		version, err := probe.Upgrade(whole, u.proc, s, u.binary, askTime)
		took := u.now().Sub(start)
		runs, alive := takeover.Runs(s, u.binary), scan.Alive(u.proc, s.PID, s.StartTicks)
		if err == nil && runs {
			err = takeover.CheckRunning(s, u.binary, u.sum)
		}
		begun := !probe.Busy(err) && !errors.Is(err, probe.ErrConnect) // for all that is known
		switch {
		case err == nil && runs:
			return upgraded{result: resultDone, tried: true, version: version, took: took}
		case err == nil:
			err = fmt.Errorf("it answers, and does not run %s", u.binary)
		case !alive && (!begun || containerFirst()):
			return upgraded{result: resultEnded}
		case !begun && runs: // by another one's doing
			return u.current(ctx, s)
		case begun && (runs || !alive || errors.Is(err, context.DeadlineExceeded)):
			return upgraded{result: resultUnanswered, tried: true, err: err}
		}
		if !probe.Busy(err) || took > u.patience || !rounds.Pause(ctx, busyPause) {
			asked := whole // a signal has not cut the call short
			if probe.Busy(err) {
				asked = ctx
			}
			r := u.failed(asked, s, err)
			r.tried = true
			return r
		}
	}
}

// watchEvery is the time between two looks: a daemon has the container deleted between its end
// and the shim's, which takes longer.
const watchEvery = 10 * time.Millisecond

// watch returns a function that reports, once the shim is dead, whether its container was seen to
// end before: then the daemon has ended the shim. One that an exchange ends dies first. Of a
// container that had ended when the watch began that cannot be told. The watch ends with ctx.
func (u *upgrader) watch(ctx context.Context, s *scan.Shim) (containerFirst func() bool) {
	look := func() (first, over bool) {
		init, there := scan.Any(u.proc, s.Init.PID)
		gone := s.Init.PID != 0 && (!there || init.StartTicks != s.Init.StartTicks || scan.Ended(u.proc, s.Init.PID))
		alive := scan.Alive(u.proc, s.PID, s.StartTicks) // in this order
		return gone && alive, gone || !alive
	}
	seen := make(chan bool, 1)
	first, over := look()
	if first {
		return func() bool { return false }
	}
	go func() {
		for !over && rounds.Pause(ctx, watchEvery) {
			first, over = look()
		}
		seen <- first
	}()
	return func() bool { return <-seen }
}
