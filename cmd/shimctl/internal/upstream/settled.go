// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"fmt"
	"slices"
	"strings"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/internal/stackdump"
)

// settled returns an error unless every goroutine is where it is known what it holds:
// it must be parked, and one that serves a connection, copies output or reaps must be
// where it holds nothing. A runnable goroutine may have been handed something that is
// nowhere but on its stack. settled also finds the service.
func (r *reader) settled(wedged bool) error {
	for i := range r.dump.Goroutines {
		g := &r.dump.Goroutines[i]
		if len(g.Frames) == 0 && parked(g) {
			continue
		}
		if len(g.Frames) == 0 {
			return fmt.Errorf("%w: a goroutine is at work, and the dump does not show it", ErrBusy)
		}
		free := r.harmless(g)
		if !free && !parked(g) {
			return fmt.Errorf("%w: a goroutine is at work, in %s", ErrBusy, g.Frames[0].Func)
		}
		if g.State == "IO wait" && !reads(g) {
			return fmt.Errorf("%w: a goroutine waits to write", ErrBusy)
		}
		for _, f := range g.Frames {
			switch {
			case f.Func == r.ttrpc+".(*serverConn).run" && (g.State != "select" || g.Frames[0].Func != f.Func):
				return fmt.Errorf("%w: a response is being written", ErrBusy)
			case strings.HasSuffix(f.Func, ".Reap"):
				if g.State != "chan send" {
					return fmt.Errorf("%w: children are being reaped", ErrBusy)
				}
				r.reaping = g.ID
			case strings.HasSuffix(f.Func, ".(*Monitor).notify.func1"):
				return fmt.Errorf("%w: exits are being told", ErrBusy)
			case strings.HasSuffix(f.Func, ".(*Service).checkProcesses") && !wedged:
				return fmt.Errorf("%w: an exit is being dealt with", ErrBusy)
			case strings.Contains(f.Func, ".copyPipes.") || strings.Contains(f.Func, ".CopyConsole."):
				if err := copier(g); err != nil {
					return err
				}
				free = true // if it wakes it reads, and is held at that call
			case strings.HasPrefix(f.Func, "github.com/containerd/go-runc.(*Runc).") && !wedged:
				return fmt.Errorf("%w: a call of the runtime is underway", ErrBusy)
			case strings.HasPrefix(f.Func, "syscall.forkExec"):
				return fmt.Errorf("%w: a child is being started", ErrBusy)
			}
			if strings.HasPrefix(f.Func, r.Release.service+".(*Service).forward") {
				if a := words(f.Args); len(a) > 0 && exact(a[0]) {
					r.service = value(a[0])
				}
			}
		}
		if !free {
			r.returns[g.ID] = r.returnsOf(g)
		}
		if g.Frames[0].Func == r.Release.service+".(*Service).processExits" {
			r.taker = g.ID // its call is inlined, so that returns would have no address
		}
	}
	if r.service == 0 {
		return fmt.Errorf("%w: its service is not in the dump", ErrRefused)
	}
	return nil
}

// parked reports whether the goroutine waits for another one, or for I/O. The states of
// those that do not are few; every other word in a dump is a reason for waiting.
func parked(g *stackdump.Goroutine) bool {
	switch g.State {
	case "idle", "runnable", "running", "syscall", "copystack", "preempted", "leaked", "dead":
		return false
	}
	return true
}

// harmless reports whether a goroutine may go on after the dump: because it waits for
// input and is held when it reads it, or is held there already; or has written the dump,
// since no other goroutine was running; or passes on signals, or readiness, and holds
// nothing; or opens a FIFO that nobody reads, on behalf of another one that waits for that
// and is checked itself.
func (r *reader) harmless(g *stackdump.Goroutine) bool {
	return g.State == "IO wait" && reads(g) || r.atRead(g) || g.State == "running" || has(g, "os/signal.loop") || has(g, "github.com/containerd/console.(*Epoller).Wait") ||
		g.State == "syscall" && has(g, "github.com/containerd/fifo.openFifo.func")
}

// reads reports whether a goroutine is in a call that takes in something. What writes to a
// log that is full goes on once the dump is written, because that needs the log as well.
func reads(g *stackdump.Goroutine) bool {
	return has(g, "internal/poll.(*FD).Read") || has(g, "internal/poll.(*FD).Accept")
}

// atRead reports whether a goroutine is about to read from a client, and is held there. That
// its thread is must be checked, see connections: it may have read, and not come back yet.
func (r *reader) atRead(g *stackdump.Goroutine) bool {
	return g.State == "syscall" && has(g, "net.(*netFD).Read") && has(g, r.receiver())
}

// copier returns an error unless a goroutine that copies a stream waits for input, which
// means that it holds no byte.
func copier(g *stackdump.Goroutine) error {
	switch {
	case has(g, "internal/poll.(*FD).Write"), has(g, "github.com/containerd/console.(*EpollConsole).Write"):
		return fmt.Errorf("%w: output waits for its reader, and the part of it that the shim holds would be lost", ErrBusy)
	case g.State == "IO wait" && has(g, "internal/poll.(*FD).Read"),
		g.State == "sync.Cond.Wait" && has(g, "github.com/containerd/console.(*EpollConsole).Read"),
		g.State == "select" && g.Frames[0].Func == "github.com/containerd/fifo.(*fifo).Read": // it is not open yet
		return nil
	}
	return fmt.Errorf("%w: a stream is being copied", ErrBusy)
}

// returnsOf returns the addresses to which the goroutine's calls will return, the
// innermost first.
func (r *reader) returnsOf(g *stackdump.Goroutine) (list []uint64) {
	for _, f := range g.Frames {
		if at := r.Text.Entry(f.Func); at != 0 && f.Offset != 0 { // otherwise it is inlined
			list = append(list, at+f.Offset)
		}
	}
	return list
}

// still returns an error unless everything is as it was when the dump was written and
// /proc read: nothing may have begun, gone on or ended between then and the stop. As long
// as no goroutine has gone on, none has started or reaped a child.
func (r *reader) still() error {
	now := r.m.Goroutines(r.goroutines)
	for i := range r.dump.Goroutines {
		g := &r.dump.Goroutines[i]
		n, there := now[g.ID]
		delete(now, g.ID)
		returns, bound := r.returns[g.ID]
		if bound && (!there || !n.Parked || !r.m.Inside(n, returns)) {
			return fmt.Errorf("%w: a goroutine has gone on meanwhile, from %s", ErrBusy, g.Frames[0].Func)
		}
	}
	exits := r.m.Chan(r.m.Word(r.service + serviceExits))
	if r.taker != 0 && !slices.ContainsFunc(exits.Receivers, func(w goheap.Waiter) bool { return w.ID == r.taker }) {
		return fmt.Errorf("%w: an exit has come meanwhile", ErrBusy)
	}
	for _, n := range now {
		if !r.m.System(n) {
			return fmt.Errorf("%w: something has begun meanwhile", ErrBusy)
		}
	}
	return r.fds.unchanged(r.pid)
}

// atRest returns an error if a runtime is at work, unless it is that of a start that the
// next program finishes. A process of the container that looks like one is no runtime.
func (r *reader) atRest() error {
	r.runtimes = slices.DeleteFunc(r.runtimes, func(c *runtime) bool { return r.known(c.pid) })
	for _, c := range r.runtimes {
		if !c.used {
			return fmt.Errorf("%w: the runtime %d is at work: %s", ErrBusy, c.pid, strings.Join(c.args, " "))
		}
	}
	return nil
}

// known reports whether the pid is that of a process in the table.
func (r *reader) known(pid int) bool {
	for _, o := range r.objects {
		if o.Pid == pid {
			return true
		}
	}
	return false
}
