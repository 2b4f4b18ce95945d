// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"os"
	"time"

	"containerd-shim.v1/proc/internal/errclass"
	"containerd-shim.v1/reaper"
	"containerd-shim.v1/state"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Adopt returns the Streams of a process that has been started: their
// descriptors are this process's. What cannot be taken over is logged and closed
// or left out; the rest is served. claim returns the child with a pid: the
// logger.
func Adopt(c Config, st *state.Streams, claim func(pid int) *reaper.Child) *Streams {
	s := &Streams{
		limits: c.Limits, gate: c.Gate,
		undrained: 1, // until all are there
		drained:   make(chan struct{}), pipes: make(map[string]bool),
		orders: orders{released: true, deleted: st.Deleted},
	}
	defer s.outputDrained()
	master, err := adoptFile(st.Terminal, true, "console")
	if err != nil {
		logrus.WithError(err).Error("adopt a terminal")
	}
	if master != nil {
		s.console = &console{arrived: make(chan struct{}), master: master, size: c.Size}
		close(s.console.arrived)
	}
	if l := st.Logger; l != nil {
		s.log = adoptLogger(l, c, claim)
	}
	var typed *output
	for i := range st.Outputs {
		o, closeSource, err := s.adoptOutput(&st.Outputs[i], st, master, c.Limits)
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
		if err := s.adoptInput(i, typed, c.Limits); err != nil {
			logrus.WithError(err).WithField("path", i.Path).Error("adopt an input")
		}
	}
	if !st.Deleted.IsZero() {
		s.ProcessExited()
		s.stopLogger(max(0, c.Limits.Linger-time.Since(st.Deleted)))
	}
	return s
}

// adoptFile returns the file with this descriptor; nil for 0. With wait it is
// made non-blocking and known to the poller.
func adoptFile(fd state.FD, wait bool, name string) (*os.File, error) {
	if fd == 0 {
		return nil, nil
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	if err == nil && wait {
		err = unix.SetNonblock(int(fd), true)
	}
	if err != nil {
		return nil, errclass.Internalf("descriptor %d: %w", fd, os.NewSyscallError("fcntl", err))
	}
	f := os.NewFile(uintptr(fd), name)
	if wait {
		if err := inPoller(f); err != nil {
			_ = f.Close() // nothing was written
			return nil, errclass.Internalf("descriptor %d: %w", fd, err)
		}
	}
	return f, nil
}

// adoptOutput returns one of all's outputs in the state that st describes, not
// running yet, and the function that closes the process's end.
func (s *Streams) adoptOutput(st *state.Output, all *state.Streams, master *os.File, l Limits) (o *output, closeSource func(), err error) {
	to := &sink{path: st.Path, seen: st.Met, keepalive: -1}
	for kind, name := range kinds {
		if name == st.Kind {
			to.kind = sinkKind(kind)
		}
	}
	if st.To == 0 {
		to, err = openSink(st.Path)
	} else {
		to.w, err = adoptFile(st.To, to.kind != isFile, st.Path)
	}
	if err != nil {
		return nil, nil, err
	}
	if st.To == 0 {
		// it has all that it needs
	} else if st.Keepalive != 0 {
		to.keepalive = int(st.Keepalive)
	} else if to.kind == isFIFO && st.From != 0 && all.Deleted.IsZero() {
		if fd, err := unix.Open(st.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
			to.keepalive = fd // without it, the FIFO breaks when its last reader goes
		}
	}
	var src *os.File
	closeSource = func() {}
	onTerminal := st.From != 0 && st.From == all.Terminal
	switch {
	case onTerminal && master != nil:
		src, closeSource = master, s.console.close
	case onTerminal:
		err = errclass.Internalf("its terminal was not adopted")
	default:
		s.note(int(st.From))
		if src, err = adoptFile(st.From, true, "pipe"); src != nil {
			closeSource = func() { _ = src.Close() } // the last holder's writes fail
		}
	}
	if err != nil {
		to.close()
		return nil, nil, err
	}
	o = newOutput(src, !onTerminal, to, l)
	close(o.decided)
	o.pending, o.total, o.state, o.since = st.Pending, st.Written, copying, orNow(st.Since)
	o.setMoved(orNow(st.Moved))
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

func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}

// adoptInput starts the input, which goes to the terminal of typed if st names no
// pipe.
func (s *Streams) adoptInput(st *state.Input, typed *output, l Limits) error {
	s.note(int(st.To))
	if st.From == 0 {
		return s.openAdopted(st, l)
	}
	info := new(unix.Stat_t)
	fifo := unix.Fstat(int(st.From), info) == nil && info.Mode&unix.S_IFMT == unix.S_IFIFO
	from, err := adoptFile(st.From, fifo, st.Path)
	if err != nil {
		return err
	}
	to, err := adoptFile(st.To, true, "pipe")
	if to == nil && typed == nil {
		_ = from.Close() // it is only read
		return fmt.Errorf("nobody is there to read it: %w", err)
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
func (s *Streams) openAdopted(st *state.Input, l Limits) error {
	to, err := adoptFile(st.To, true, "pipe")
	if err != nil {
		return err
	}
	in, err := openInput(st.Path, l)
	if err != nil {
		_ = to.Close() // the process sees the end of its input
		return err
	}
	in.gate = s.gate
	s.input = in
	err = in.hold()
	s.startInput(to)
	return err
}

func adoptLogger(st *state.Logger, c Config, claim func(int) *reaper.Child) *logger {
	log := &logger{path: st.Path, limits: c.Limits, gate: c.Gate, stopped: make(chan struct{}), child: claim(st.Pid)}
	var reads []*os.File
	for _, fd := range st.Pipes {
		if f, err := adoptFile(fd, false, "pipe"); err == nil {
			reads = append(reads, f)
		} else {
			logrus.WithError(err).Error("adopt a logger's pipe")
		}
	}
	log.keep(reads)
	return log
}
