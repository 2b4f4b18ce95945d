// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/internal/stackdump"
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
// processes: in the service's channel, in the goroutine that takes them from there, and in
// the one that puts them in.
func (r *reader) lostExits() {
	add := func(e exit) {
		if e.Pid <= 0 || e.Pid > maxPid {
			r.m.Fail("an exit of pid %d", e.Pid)
			return
		}
		if _, known := r.exits[e.Pid]; known || r.living[e.Pid] { // the pid is used again
			return
		}
		r.exitOrder = append(r.exitOrder, e.Pid)
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
	for _, e := range r.inReap() {
		add(e)
	}
	for _, w := range c.Senders { // also where Reap's frame is not as it is known
		add(r.exit(w.Elem))
	}
}

// inReap returns the exits of which Reap tells the service and each call of the runtime, in
// the order of death. It waits to put one of them into the channel of one of these.
func (r *reader) inReap() []exit {
	frame := r.frameOfReap()
	for _, word := range frame {
		var sent exit
		waits := r.m.Try(func() {
			c := r.m.Chan(word)
			i := slices.IndexFunc(c.Senders, func(w goheap.Waiter) bool { return w.ID == r.reaping })
			if c.ElemSize != exitSize || i < 0 {
				r.m.Fail("not the channel at %#x", word)
				return
			}
			sent = r.exit(c.Senders[i].Elem)
		})
		if waits {
			return r.listWith(sent, frame)
		}
	}
	return nil
}

// frameOfReap returns the words of Reap's frame on its goroutine's stack: those between the
// addresses to which the call of chansend returns, and its own.
func (r *reader) frameOfReap() []uint64 {
	returns := r.returns[r.reaping]
	g, there := r.m.Goroutines(r.goroutines)[r.reaping]
	if !there || len(returns) < 2 {
		return nil
	}
	words := r.m.Stack(g)
	i := slices.Index(words, returns[0])
	n := slices.Index(words[i+1:], returns[1])
	if i < 0 || n < 0 {
		return nil // not as still has seen it
	}
	return words[i+1:][:n]
}

// listWith returns the list of exits that one of the words points to, and another one is the length
// of, and that has the exit that is being sent. How the compiler lays out the slice is not known: it
// keeps what it still needs, in no order. Of several it is the longest, and then the one with the
// lowest address: a loop has a pointer into it, too. Without one it is the exit alone.
func (r *reader) listWith(sent exit, words []uint64) []exit {
	list, at := []exit{sent}, ^uint64(0)
	for _, array := range words {
		if array < 1<<12 || array%8 != 0 {
			continue
		}
		for _, n := range words {
			if n < uint64(len(list)) || n > maxExits || n == uint64(len(list)) && array > at {
				continue
			}
			r.m.Try(func() {
				if l := r.exitsAt(array, n, sent); len(l) > 0 {
					list, at = l, array
				}
			})
		}
	}
	return list
}

// exitsAt returns the n exits at the address; nil if they cannot be exits, or sent is not among them.
func (r *reader) exitsAt(array, n uint64, sent exit) (list []exit) {
	has := false
	for i := range n {
		e := exit{r.m.Int(array + 16*i), r.m.Int(array + 16*i + 8), sent.At}
		if e.Pid <= 0 || e.Pid > maxPid || e.Status < 0 || e.Status > 255 || r.m.Err() != nil {
			return nil
		}
		has = has || e == sent
		list = append(list, e)
	}
	if !has {
		return nil
	}
	return list
}

// maxExits bounds the list of exits of one call of Reap.
const maxExits = 1 << 14

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
