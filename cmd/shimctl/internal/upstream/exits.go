// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"strconv"
	"strings"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/stackdump"
)

// exit is a death that was reaped and not dealt with.
type exit struct {
	Pid, Status int
	At          time.Time
}

// exitSize is the size of go-runc's Exit: a time, a pid, a status.
const exitSize = 40

func (r *reader) exit(at uint64) exit {
	return exit{r.m.Int(at + 24), r.m.Int(at + 32), r.time(at)}
}

// lostExits finds the deaths that the shim has reaped and no process knows of: in the
// service's channel, with the goroutine that takes them from there, with the one that
// is to put one in, and in the list of which that is one.
func (r *reader) lostExits() {
	add := func(e exit) {
		if e.Pid <= 0 || e.Pid > maxPid {
			r.m.Fail("an exit of pid %d", e.Pid)
			return
		}
		if _, known := r.exits[e.Pid]; !known {
			r.exitOrder = append(r.exitOrder, e.Pid)
		}
		r.exits[e.Pid] = e
	}
	if e, ok := r.inCheckProcesses(); ok {
		add(e)
	}
	c := r.m.Chan(r.m.Word(r.service + serviceExits))
	if c.ElemSize != exitSize {
		r.m.Fail("exits of %d bytes", c.ElemSize)
		return
	}
	for _, at := range c.Queued {
		add(r.exit(at))
	}
	for _, w := range c.Senders {
		e := r.exit(w.Elem)
		add(e)
		for _, later := range r.restOf(w, e) {
			add(later)
		}
	}
	// Reap may stand at the channel of a runtime's call instead.
	for _, at := range r.otherChannels() {
		for _, w := range r.m.Chan(at).Senders {
			for _, e := range r.restOf(w, r.exit(w.Elem)) {
				if _, known := r.exits[e.Pid]; !known {
					add(e)
				}
			}
		}
	}
}

// inCheckProcesses is the exit that the service works on, from the arguments of the
// function that does.
func (r *reader) inCheckProcesses() (exit, bool) {
	for _, g := range r.dump.Goroutines {
		for _, f := range g.Frames {
			if f.Func != r.Release.service+".(*Service).checkProcesses" {
				continue
			}
			args := words(f.Args) // the service; wall, ext, loc; pid, status
			if len(args) < 6 || !exact(args[4]) || !exact(args[5]) {
				r.m.Fail("the exit that is worked on is not shown")
				return exit{}, false
			}
			return exit{int(value(args[4])), int(value(args[5])), r.now}, true
		}
	}
	return exit{}, false
}

// restOf finds the list of exits that Reap goes through, on the stack of its
// goroutine: pairs of pid and status, of which one is the exit that it sends.
func (r *reader) restOf(w goheap.Waiter, sent exit) (rest []exit) {
	words := r.m.Stack(w.Goroutine)
	for i := 0; i+3 <= len(words) && rest == nil; i++ {
		array, length, capacity := words[i], words[i+1], words[i+2]
		if length == 0 || length > capacity || capacity > maxExits || array < 1<<12 {
			continue
		}
		r.m.Try(func() {
			var list []exit
			has := false
			for i := range length {
				e := exit{r.m.Int(array + 16*i), r.m.Int(array + 16*i + 8), sent.At}
				if e.Pid <= 0 || e.Pid > maxPid || e.Status < 0 || e.Status > 255 {
					return
				}
				has = has || e.Pid == sent.Pid && e.Status == sent.Status
				list = append(list, e)
			}
			if has {
				rest = list
			}
		})
	}
	return rest
}

// maxExits bounds what one call of Reap is believed to have reaped.
const maxExits = 1 << 14

// otherChannels are those at which calls of the runtime wait for its exit.
func (r *reader) otherChannels() (list []uint64) {
	for _, g := range r.dump.Goroutines {
		for _, f := range g.Frames {
			if strings.HasSuffix(f.Func, ".(*Monitor).Wait") {
				if a := words(f.Args); len(a) == 3 && exact(a[2]) {
					list = append(list, value(a[2]))
				}
			}
		}
	}
	return list
}

// words are the arguments of a frame, flat: braces are dropped.
func words(args string) []string {
	return strings.FieldsFunc(args, func(r rune) bool { return r == ',' || r == ' ' || r == '{' || r == '}' })
}

// exact reports whether the runtime is sure of the value: no question mark.
func exact(word string) bool {
	_, err := strconv.ParseUint(word, 0, 64)
	return err == nil
}

func value(word string) uint64 {
	v, err := strconv.ParseUint(word, 0, 64)
	if err != nil {
		return 0
	}
	return v
}

// has reports whether a frame's function is the one, or begins with it.
func has(g *stackdump.Goroutine, prefix string) bool { return frameOf(g, prefix) != nil }

// frameOf is the innermost frame whose function begins with prefix.
func frameOf(g *stackdump.Goroutine, prefix string) *stackdump.Frame {
	for i := range g.Frames {
		if strings.HasPrefix(g.Frames[i].Func, prefix) {
			return &g.Frames[i]
		}
	}
	return nil
}
