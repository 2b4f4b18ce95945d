// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"os"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/reaper"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Adopt returns the Streams of a process that has been started: their
// descriptors are this process's. What cannot be taken over is logged and closed
// or left out; the rest is served. ctx bounds the wait for memory and descriptors. claim
// returns the child with a pid: the logger.
func Adopt(ctx context.Context, c Config, st *state.Streams, claim func(pid int) *reaper.Child) *Streams {
	s := &Streams{
		limits: c.Limits, gate: c.Gate,
		undrained: 1, // until all are there
		drained:   make(chan struct{}), pipes: make(map[string]bool),
		orders: orders{released: true, deleted: st.Deleted},
	}
	defer s.outputDrained()
	master, err := adoptFile(ctx, st.Terminal, true, "console")
	if err != nil {
		logrus.WithError(err).Error("adopt a terminal")
	}
	if master != nil {
		s.console = &console{arrived: make(chan struct{}), master: master, size: c.Size}
		close(s.console.arrived)
	}
	if l := st.Logger; l != nil {
		s.log = adoptLogger(ctx, l, c, claim)
	}
	var typed *output
	for i := range st.Outputs {
		o, closeSource, err := s.adoptOutput(ctx, &st.Outputs[i], st, master, c.Limits)
		if err != nil {
			logrus.WithError(err).WithField("path", st.Outputs[i].Path).Error("adopt an output")
			continue
		}
		if o.src == master {
			typed = o
		}
		s.startOutput(o, closeSource)
	}
	if i := st.Input; i != nil {
		if err := s.adoptInput(ctx, i, typed, c.Limits); err != nil {
			logrus.WithError(err).WithField("path", i.Path).Error("adopt an input")
		}
	}
	if !st.Deleted.IsZero() {
		s.ProcessExited()
		s.stopLogger(c.Limits.Linger) // anew: it may still read
	}
	return s
}

// adoptFile returns the file with this descriptor, of which it becomes the owner; nil for
// 0. With wait it is made non-blocking and known to the poller, for which memory may be
// missing at the moment. Then it is tried again until ctx ends: if this end were closed,
// the process would be killed by what it writes, or see the end of its input or a hang-up.
func adoptFile(ctx context.Context, fd state.FD, wait bool, name string) (*os.File, error) {
	if fd == 0 {
		return nil, nil
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	if err == nil && wait {
		err = unix.SetNonblock(int(fd), true)
	}
	if err != nil {
		drop(fd)
		return nil, errclass.Internalf("descriptor %d: %w", fd, os.NewSyscallError("fcntl", err))
	}
	first := os.NewFile(uintptr(fd), name)
	if !wait {
		return first, nil
	}
	if err = inPoller(first); err == nil {
		return first, nil
	}
	logrus.WithError(err).WithField("fd", fd).Warn("a stream could not be adopted at once")
	// The poller is told of a file only when that is made, so each further attempt is a
	// duplicate's.
	defer first.Close()
	f, err := errclass.WhileExhausted(ctx, func() (*os.File, error) { return pollable(uintptr(fd), name) })
	if err != nil {
		return nil, errclass.Internalf("descriptor %d: %w", fd, err)
	}
	return f, nil
}

// drop closes descriptors that will not be served; 0 is none.
func drop(fds ...state.FD) {
	for _, fd := range fds {
		if fd != 0 {
			_ = unix.Close(int(fd)) // nothing was written
		}
	}
}

// adoptOutput returns one of all's outputs in the state that st describes, not
// running yet, and the function that closes the process's end. If it fails, both ends are
// closed: one that is open, and that nobody serves, would hold up the process for ever.
func (s *Streams) adoptOutput(ctx context.Context, st *state.Output, all *state.Streams, master *os.File, l Limits) (o *output, closeSource func(), err error) {
	src, closeSource, err := s.adoptSource(ctx, st.From, st.From != 0 && st.From == all.Terminal, master)
	if err != nil {
		drop(st.To, st.Keepalive)
		return nil, nil, err
	}
	to, err := adoptSink(ctx, st, all.Deleted.IsZero())
	if err != nil {
		closeSource()
		return nil, nil, err
	}
	onTerminal := src != nil && src == master
	o = newOutput(src, !onTerminal, to, l)
	close(o.decided)
	o.pending, o.total, o.state, o.since = st.Pending, st.Written, copying, orNow(st.Since)
	o.setMoved(orNow(st.Moved))
	// Nobody has read src since the program before, so its bytes may be those that dst did not take.
	o.blocked = o.spliced && unread(src) > 0
	switch {
	case onTerminal:
		o.inUse = o.processLives
	case src == nil && len(o.pending) > 0:
		o.state = flushing
	case src == nil:
		o.state = waiting
	}
	o.order(orders{hungUp: st.HungUp})
	return o, closeSource, nil
}

// adoptSource returns the process's end of an output, nil once it has ended, and the
// function that closes it.
func (s *Streams) adoptSource(ctx context.Context, from state.FD, onTerminal bool, master *os.File) (*os.File, func(), error) {
	switch {
	case from == 0:
		return nil, func() {}, nil
	case onTerminal && master == nil:
		return nil, nil, errclass.Internalf("its terminal was not adopted")
	case onTerminal:
		return master, s.console.close, nil
	}
	s.note(int(from))
	src, err := adoptFile(ctx, from, true, "pipe")
	return src, func() { _ = src.Close() }, err // the last holder's writes fail
}

// adoptSink returns the client's end of an output. alive says that clients may still come
// and go.
func adoptSink(ctx context.Context, st *state.Output, alive bool) (to *sink, err error) {
	if st.To == 0 {
		defer drop(st.Keepalive) // the new one has its own
		return errclass.WhileExhausted(ctx, func() (*sink, error) { return openSink(st.Path) })
	}
	to = &sink{path: st.Path, seen: st.Met, keepalive: -1}
	for kind, name := range kinds {
		if name == st.Kind {
			to.kind = sinkKind(kind)
		}
	}
	if to.w, err = adoptFile(ctx, st.To, to.kind != isFile, st.Path); err != nil {
		drop(st.Keepalive)
		return nil, err
	}
	if st.Keepalive != 0 {
		to.keepalive = int(st.Keepalive)
	} else if to.kind == isFIFO && st.From != 0 && alive {
		// Without it, the FIFO breaks when its last reader goes. If it cannot be had, -1.
		to.keepalive, _ = errclass.WhileExhausted(ctx, func() (int, error) {
			return unix.Open(st.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		})
	}
	return to, nil
}

func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}

// adoptInput starts the input, which goes to the terminal of typed if st names no
// pipe. If it fails, both ends are closed.
func (s *Streams) adoptInput(ctx context.Context, st *state.Input, typed *output, l Limits) error {
	s.note(int(st.To))
	if st.From == 0 {
		return s.openAdopted(ctx, st, l)
	}
	info := new(unix.Stat_t)
	fifo := unix.Fstat(int(st.From), info) == nil && info.Mode&unix.S_IFMT == unix.S_IFIFO
	from, err := adoptFile(ctx, st.From, fifo, st.Path)
	if err != nil {
		drop(st.To, st.Keepalive)
		return err
	}
	to, err := adoptFile(ctx, st.To, true, "pipe")
	if err == nil && to == nil && typed == nil {
		err = errclass.Internalf("its terminal was not adopted")
	}
	if err != nil {
		_ = from.Close() // it is only read
		drop(st.Keepalive)
		return err
	}
	in := &input{
		path: st.Path, r: from, fifo: fifo, limits: l, gate: s.gate, first: st.Pending,
		decided: make(chan struct{}), decision: toHold, keepalive: -1, ended: st.Keepalive == 0,
	}
	close(in.decided)
	if st.ClosedFirst {
		in.decision = toEnd
	}
	if st.Keepalive != 0 {
		in.keepalive = int(st.Keepalive)
	}
	s.input = in
	if to != nil {
		s.startInput(to)
	} else {
		s.startTyping(typed.src, typed)
	}
	return nil
}

// openAdopted starts an input of which only the process's end was handed over.
func (s *Streams) openAdopted(ctx context.Context, st *state.Input, l Limits) error {
	defer drop(st.Keepalive) // keep opens one
	to, err := adoptFile(ctx, st.To, true, "pipe")
	if err != nil {
		return err
	}
	in, err := errclass.WhileExhausted(ctx, func() (*input, error) { return openInput(st.Path, l) })
	if err != nil {
		_ = to.Close() // the process sees the end of its input
		return err
	}
	in.gate = s.gate
	s.input = in
	in.decide(toHold)
	_, err = errclass.WhileExhausted(ctx, func() (struct{}, error) { return struct{}{}, in.keep() })
	close(in.decided)
	s.startInput(to)
	return err
}

func adoptLogger(ctx context.Context, st *state.Logger, c Config, claim func(int) *reaper.Child) *logger {
	log := &logger{path: st.Path, limits: c.Limits, gate: c.Gate, stopped: make(chan struct{}), child: claim(st.Pid)}
	var reads []*os.File
	for _, fd := range st.Pipes {
		if f, err := adoptFile(ctx, fd, false, "pipe"); err == nil {
			reads = append(reads, f)
		} else {
			logrus.WithError(err).Error("adopt a logger's pipe")
		}
	}
	log.keep(reads)
	return log
}
