// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"slices"
	"strings"
)

// graph knows the waiters of a dump and who holds what.
type graph struct {
	waiters []*Waiter
	reaper  *Waiter // blocked in a delivery; nil when it is idle
	exits   *Waiter // the exit loop, when it waits for something
	pub     *Waiter
	found   map[BlockedOn]*Waiter // results of find: thousands may wait for the same
}

func newGraph(d *Dump) *graph {
	g := &graph{found: map[BlockedOn]*Waiter{}}
	notifiers := 0
	for i := range d.Goroutines {
		w := waiterOf(&d.Goroutines[i])
		g.waiters = append(g.waiters, &w)
		if w.Role == RoleNotifier {
			notifiers++
		}
	}
	for _, w := range g.waiters {
		// The reaper gives each exit to a new notifier and waits a second for it:
		// only if there are two of them has one taken longer.
		if w.BlockedOn == BlockedOnSendTimed && notifiers < 2 {
			w.BlockedOn = BlockedOnNothing
		}
		switch w.Role {
		case RoleReaper:
			if w.BlockedOn != BlockedOnNothing {
				g.reaper = w
			}
		case RoleNotifier:
			// The reaper itself waits only a second for its notifiers, so a
			// notifier counts only if nothing else is found.
			if w.BlockedOn != BlockedOnNothing && g.reaper == nil {
				g.reaper = w
			}
		case RoleExitLoop:
			if w.BlockedOn != BlockedOnNothing {
				g.exits = w
			}
		case RolePublisher:
			if w.BlockedOn != BlockedOnNothing {
				g.pub = w
			}
		}
	}
	return g
}

// follow walks from w to whatever it waits for in the end. cycle is the index in
// path at which the cycle begins, -1 if the path ends outside the shim.
func (g *graph) follow(w *Waiter) (path []*Waiter, cycle int) {
	seen := map[*Waiter]int{}
	for w != nil && w.BlockedOn != BlockedOnNothing {
		if at, ok := seen[w]; ok {
			return path, at
		}
		seen[w] = len(path)
		path = append(path, w)
		w = g.holder(w)
	}
	return path, -1
}

// holder returns the goroutine that w waits for, nil if that is not in this
// process or cannot be told from the dump.
func (g *graph) holder(w *Waiter) *Waiter {
	switch w.BlockedOn {
	case BlockedOnSend, BlockedOnSendTimed:
		if g.exits != nil {
			return g.exits
		}
		return g.find(w, stuckSubscriber)
	case BlockedOnRunc, BlockedOnPublish:
		if w != g.reaper {
			return g.reaper
		}
	case BlockedOnReaperLock:
		if w != g.reaper {
			return g.reaper
		}
	case BlockedOnEventQueue:
		return g.pub
	case BlockedOnServiceLock:
		// The exit loop holds it while it asks each process for its pid; a
		// handler does while it waits for anything at all (v1.1, v1.2.0, and
		// Create in every v1 release).
		if g.exits != nil && g.exits != w && g.exits.BlockedOn != BlockedOnServiceLock && g.exits.BlockedOn != BlockedOnRunc {
			return g.exits
		}
		if h := g.find(w, holdsService); h != nil {
			return h
		}
		if g.exits != w {
			return g.exits
		}
	case BlockedOnExecLock:
		return g.find(w, func(h *Waiter) bool {
			return h.BlockedOn != BlockedOnExecLock && h.on("xecProcess).", ".(*execProcess)", ".(*execCreatedState)")
		})
	case BlockedOnInitLock:
		return g.find(w, func(h *Waiter) bool {
			return h.BlockedOn != BlockedOnInitLock && h.BlockedOn != BlockedOnServiceLock && h.on(".(*Init).", "tedState).", "ningState).")
		})
	case BlockedOnVerbLock: // not through find: each process has its own
		for _, h := range g.waiters {
			if h.BlockedOn == BlockedOnRunc && h.Labels["id"] == w.Labels["id"] {
				return h
			}
		}
	case BlockedOnLogLock:
		return g.find(w, func(h *Waiter) bool { return h.BlockedOn == BlockedOnLogWrite })
	}
	return nil
}

// find returns the longest-waiting waiter that matches. One that waits for a runc
// command is preferred: whoever holds a lock is the one at work.
func (g *graph) find(but *Waiter, match func(*Waiter) bool) *Waiter {
	if best, ok := g.found[but.BlockedOn]; ok && best != but {
		return best
	}
	var best *Waiter
	defer func() { g.found[but.BlockedOn] = best }()
	for _, h := range g.waiters {
		if h == but || h.BlockedOn == BlockedOnNothing || !match(h) {
			continue
		}
		if best == nil || h.BlockedOn == BlockedOnRunc && best.BlockedOn != BlockedOnRunc ||
			(h.BlockedOn == BlockedOnRunc) == (best.BlockedOn == BlockedOnRunc) && h.Since > best.Since {
			best = h
		}
	}
	return best
}

// holdsService reports whether h is a handler that got past the service's mutex.
func holdsService(h *Waiter) bool {
	return h.Role == RoleHandler && h.RPC != "Wait" && h.BlockedOn != BlockedOnServiceLock
}

// stuckSubscriber reports whether h has a subscription to the reaper that it does
// not read from at the moment: it flushes a command's output, or wants to
// unsubscribe. A goroutine that reads is in Wait itself; one in WaitTimeout has no
// subscription.
func stuckSubscriber(h *Waiter) bool {
	return len(h.Frames) > 1 && slices.ContainsFunc(h.Frames[1:], func(f Frame) bool { return strings.HasSuffix(f.Func, ".(*Monitor).Wait") })
}
