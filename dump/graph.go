// SPDX-License-Identifier: Apache-2.0

package dump

// graph knows the actors of a dump and who holds what.
type graph struct {
	actors []*Actor
	reaper *Actor // blocked in a delivery; nil when it is idle
	exits  *Actor // the exit loop, when it waits for something
	pub    *Actor
	found  map[Need]*Actor // what find gave for a need: thousands may wait for the same
}

func newGraph(d *Dump) *graph {
	g := &graph{found: map[Need]*Actor{}}
	for i := range d.Goroutines {
		a := actorOf(&d.Goroutines[i])
		g.actors = append(g.actors, &a)
		switch a.Role {
		case RoleReaper:
			if a.Need != NeedNothing {
				g.reaper = &a
			}
		case RoleNotifier:
			// The reaper itself only waits a second for its notifiers, so a
			// notifier counts when nothing better is there.
			if a.Need != NeedNothing && g.reaper == nil {
				g.reaper = &a
			}
		case RoleExitLoop:
			if a.Need != NeedNothing {
				g.exits = &a
			}
		case RolePublisher:
			if a.Need != NeedNothing {
				g.pub = &a
			}
		}
	}
	return g
}

// follow walks from a to whatever it waits for in the end. ring is the index in
// path at which the ring begins, -1 when the path ends outside of the shim.
func (g *graph) follow(a *Actor) (path []*Actor, ring int) {
	seen := map[*Actor]int{}
	for a != nil && a.Need != NeedNothing {
		if at, ok := seen[a]; ok {
			return path, at
		}
		seen[a] = len(path)
		path = append(path, a)
		a = g.holder(a)
	}
	return path, -1
}

// holder is the goroutine that must go on so that a can, nil when it is not in
// this process or not to be told.
func (g *graph) holder(a *Actor) *Actor {
	switch a.Need {
	case NeedSend, NeedSendTimed:
		if g.exits != nil {
			return g.exits
		}
		return g.find(a, stuckSubscriber)
	case NeedRunc, NeedPublish:
		if a != g.reaper {
			return g.reaper
		}
	case NeedReaperLock:
		if a != g.reaper {
			return g.reaper
		}
	case NeedEventQueue:
		return g.pub
	case NeedServiceLock:
		// The exit loop holds it while it asks each process for its pid; a
		// handler does while it waits for anything at all (v1.1, v1.2.0, and
		// Create in every v1 release).
		if g.exits != nil && g.exits != a && g.exits.Need != NeedServiceLock && g.exits.Need != NeedRunc {
			return g.exits
		}
		if h := g.find(a, holdsService); h != nil {
			return h
		}
		if g.exits != a {
			return g.exits
		}
	case NeedExecLock:
		return g.find(a, func(h *Actor) bool {
			return h.Need != NeedExecLock && h.on("xecProcess).", ".(*execProcess)", ".(*execCreatedState)")
		})
	case NeedInitLock:
		return g.find(a, func(h *Actor) bool {
			return h.Need != NeedInitLock && h.Need != NeedServiceLock && h.on(".(*Init).", "tedState).", "ningState).")
		})
	case NeedGate: // not through find: each process has a gate of its own
		for _, h := range g.actors {
			if h.Need == NeedRunc && h.Labels["id"] == a.Labels["id"] {
				return h
			}
		}
	case NeedLogLock:
		return g.find(a, func(h *Actor) bool { return h.Need == NeedLogWrite })
	}
	return nil
}

// find returns the longest-waiting actor that matches; a runc command before
// everything else, since the process that holds a lock is the one at work.
func (g *graph) find(but *Actor, match func(*Actor) bool) *Actor {
	if best, ok := g.found[but.Need]; ok && best != but {
		return best
	}
	var best *Actor
	defer func() { g.found[but.Need] = best }()
	for _, h := range g.actors {
		if h == but || h.Need == NeedNothing || !match(h) {
			continue
		}
		if best == nil || h.Need == NeedRunc && best.Need != NeedRunc ||
			(h.Need == NeedRunc) == (best.Need == NeedRunc) && h.Since > best.Since {
			best = h
		}
	}
	return best
}

// holdsService is true for a handler that got past the service's mutex.
func holdsService(h *Actor) bool {
	return h.Role == RoleHandler && h.RPC != "Wait" && h.Need != NeedServiceLock
}

// stuckSubscriber is a goroutine with a channel of the reaper's that it does
// not read now: it flushes a command's output, or wants to unsubscribe.
func stuckSubscriber(h *Actor) bool {
	return h.on(".(*Monitor).Wait") && h.State != "chan receive"
}
