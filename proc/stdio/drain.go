// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"time"

	"containerd-shim/guard"
)

// ProcessExited ends the input: there is nobody left to read it.
func (p *Streams) ProcessExited() {
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

// CloseInput is CloseIO.
func (p *Streams) CloseInput() {
	if p.input != nil {
		p.input.dropKeep()
	}
}

// relays returns the outputs.
func (p *Streams) relays() []*relay {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*relay(nil), p.pumps...)
}

// AwaitOutput returns when all output was copied, or when it is not worth
// waiting any more: the pipes are held open and idle, or slow has passed.
func (p *Streams) AwaitOutput(slow time.Duration) {
	limit := time.NewTimer(slow)
	defer limit.Stop()
	tick := time.NewTicker(p.limits.DrainTick)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-p.drained:
			return
		case <-limit.C:
			return
		case <-tick.C:
			if time.Since(start) >= p.limits.DrainHeld && p.allIdle(p.limits.DrainHeld) {
				return
			}
		}
	}
}

func (p *Streams) allIdle(d time.Duration) bool {
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

// ProcessDeleted lets go of what is still open, without losing a byte that
// somebody reads: output goes on being copied while it flows. Only a pipe that
// stays open with nothing in it is cut, or one whose client never comes.
func (p *Streams) ProcessDeleted() {
	p.ProcessExited()
	p.deleted.fire()
	if p.log != nil {
		guard.Go("stop the logger", func() { p.log.stop(p.limits.LoggerEnd) })
	}
	select {
	case <-p.drained:
	default:
		guard.Go("end the output", func() { p.enforce(time.Now()) })
	}
}

func (p *Streams) enforce(deletedAt time.Time) {
	tick := time.NewTicker(5 * p.limits.DrainTick)
	defer tick.Stop()
	for {
		select {
		case <-p.drained:
			return
		case <-tick.C:
		}
		since := time.Since(deletedAt)
		for _, r := range p.relays() {
			if min(r.idle(), since) >= p.limits.Held {
				r.cut()
			}
			if r.blocked.Load() && since >= p.limits.LateReader {
				r.out.dropKeep()
			}
		}
	}
}

// Abort undoes Open: the process will never be. What the runtime wrote still
// reaches the client.
func (p *Streams) Abort() {
	p.RuntimeReturned()
	p.aborted.fire()
	if p.console != nil {
		p.console.close()
	}
	p.ProcessExited()
	if p.log != nil {
		guard.Go("stop the logger", func() { p.log.stop(0) })
	}
	p.deleted.fire()
	guard.Go("end the output", func() {
		grace := time.NewTimer(p.limits.DrainHeld)
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
