// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"strconv"
	"strings"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/stackdump"
)

// exit is the exit of a process that was reaped but not yet dealt with.
type exit struct {
	Pid, Status int
	At          time.Time
}

// exitSize is the size of go-runc's Exit: a time, a pid, a status.
const exitSize = 40

func (r *reader) exit(at uint64) exit {
	return exit{r.m.Int(at + 24), r.m.Int(at + 32), r.time(at)}
}

// lostExits finds the exits that the shim has reaped but not recorded with their
// processes: in the service's channel, in the goroutine that takes them from there, in
// the one that waits to put one in, and in the list through which that one goes.
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
	// Reap may wait at the channel of a call of the runtime instead.
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

// inCheckProcesses returns the exit that the service is dealing with, if there is one,
// from the arguments of the function that does so.
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

// restOf returns the list of exits that Reap goes through. It is the slice on the stack
// of Reap's goroutine w that consists of pairs of pid and status, one of which is the
// exit that it is sending. nil if there is none.
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

// maxExits bounds the list of exits of one call of Reap.
const maxExits = 1 << 14

// otherChannels returns the addresses of the channels at which calls of the runtime wait
// for its exit.
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

// words splits the arguments of a frame, as a dump prints them, into words, without
// the braces.
func words(args string) []string {
	return strings.FieldsFunc(args, func(r rune) bool { return r == ',' || r == ' ' || r == '{' || r == '}' })
}

// exact reports whether word is a number without the question mark by which the
// runtime says that the value may be stale.
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

// has reports whether g has a frame whose function's name begins with prefix.
func has(g *stackdump.Goroutine, prefix string) bool { return frameOf(g, prefix) != nil }

// frameOf returns the innermost frame whose function's name begins with prefix, or nil.
func frameOf(g *stackdump.Goroutine, prefix string) *stackdump.Frame {
	for i := range g.Frames {
		if strings.HasPrefix(g.Frames[i].Func, prefix) {
			return &g.Frames[i]
		}
	}
	return nil
}
