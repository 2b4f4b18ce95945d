// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"time"

	"containerd-shim/guard"
)

// Variables, so that tests need not wait as long.
var (
	// heldGrace is how long, after Delete, a pipe may stay open with nothing
	// in it, held by a process that the deleted one left behind.
	heldGrace = 10 * time.Second
	// drainHeld is how long Delete waits for a pipe that is held open idle.
	drainHeld = 2 * time.Second
	// drainSlow is how long Delete of init waits for a slow client. The daemon
	// kills the shim after it, and with it what is not in the FIFO yet.
	drainSlow = 10 * time.Second
	// drainTick is how often the pumps are looked at meanwhile.
	drainTick = 100 * time.Millisecond
)

// processExited ends the input: there is nobody left to read it.
func (p *processIO) processExited() {
	p.exited.fire()
	p.mu.Lock()
	in := p.inPump
	p.mu.Unlock()
	if in != nil {
		in.cut()
	} else if p.input != nil {
		p.input.close() // a terminal that never came
	}
}

// closeStdin is CloseIO.
func (p *processIO) closeStdin() {
	if p.input != nil {
		p.input.dropKeep()
	}
}

// relays returns the outputs.
func (p *processIO) relays() []*relay {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*relay(nil), p.pumps...)
}

// waitDrained returns when all output was copied, or when it is not worth
// waiting any more: the pipes are held open and idle, or slow has passed.
func (p *processIO) waitDrained(slow time.Duration) {
	limit := time.NewTimer(slow)
	defer limit.Stop()
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-p.drained:
			return
		case <-limit.C:
			return
		case <-tick.C:
			if time.Since(start) >= drainHeld && p.allIdle(drainHeld) {
				return
			}
		}
	}
}

func (p *processIO) allIdle(d time.Duration) bool {
	for _, r := range p.relays() {
		select {
		case <-r.ended:
		default:
			if r.idle() < d {
				return false
			}
		}
	}
	return true
}

// processDeleted lets go of what is still open, without losing a byte that
// somebody reads: output goes on being copied while it flows. Only a pipe that
// stays open with nothing in it is cut, or one whose client never comes.
func (p *processIO) processDeleted() {
	p.processExited()
	p.deleted.fire()
	if p.log != nil {
		guard.Go("stop the logger", func() { p.log.stop(loggerEnd) })
	}
	select {
	case <-p.drained:
	default:
		guard.Go("end the output", func() { p.enforce(time.Now()) })
	}
}

func (p *processIO) enforce(deletedAt time.Time) {
	tick := time.NewTicker(5 * drainTick)
	defer tick.Stop()
	for {
		select {
		case <-p.drained:
			return
		case <-tick.C:
		}
		since := time.Since(deletedAt)
		for _, r := range p.relays() {
			if min(r.idle(), since) >= heldGrace {
				r.cut()
			}
			if r.blocked.Load() && since >= lateReader {
				r.out.dropKeep()
			}
		}
	}
}

// abort undoes openIO: the process will never be. What the runtime wrote still
// reaches the client.
func (p *processIO) abort() {
	p.startOver()
	p.aborted.fire()
	if p.console != nil {
		p.console.close()
	}
	p.processExited()
	if p.log != nil {
		guard.Go("stop the logger", func() { p.log.stop(0) })
	}
	p.deleted.fire()
	guard.Go("end the output", func() {
		grace := time.NewTimer(drainHeld)
		defer grace.Stop()
		select {
		case <-p.drained:
		case <-grace.C:
			for _, r := range p.relays() {
				r.cut()
			}
		}
	})
}
