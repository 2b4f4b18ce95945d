// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A ttrpc frame begins with its payload's length, 4 bytes, and its stream's
// number, 4 bytes, both big-endian, then its type and flags, a byte each.
const (
	headerSize  = 10
	typeRequest = 1
	maxPayload  = 4 << 20
)

// Check returns nil if s is complete and consistent in itself: ids are present and
// unique, phases, stages and kinds are known, frames are whole, and no descriptor
// is used twice. It does not look at the descriptors themselves.
func (s *Shim) Check() error {
	ids := map[string]bool{}
	check := func(p *Process) error {
		if p.ID == "" || ids[p.ID] {
			return fmt.Errorf("state: process %q: no id, or that of another process", p.ID)
		}
		ids[p.ID] = true
		if err := p.check(len(s.Connections)); err != nil {
			return fmt.Errorf("state: process %s: %w", p.ID, err)
		}
		return nil
	}
	if c := s.Container; c != nil {
		if err := check(&c.Process); err != nil {
			return err
		}
	} else if len(s.Execs) > 0 || s.Deleted != nil || len(s.Held) > 0 {
		return fmt.Errorf("state: processes without a container")
	}
	for i := range s.Execs {
		if s.Execs[i].Phase == Paused {
			return fmt.Errorf("state: exec %s: only a container is paused", s.Execs[i].ID)
		}
		if err := check(&s.Execs[i].Process); err != nil {
			return err
		}
	}
	for i := range s.Leaving {
		if err := s.Leaving[i].check(); err != nil {
			return fmt.Errorf("state: a deleted process: %w", err)
		}
	}
	for _, h := range s.Held {
		if h.ID == "" || h.Pid <= 0 || !isStatus(h.Status) || h.Seq > s.Seq {
			return fmt.Errorf("state: exit of %q: pid %d, status %d, number %d of %d", h.ID, h.Pid, h.Status, h.Seq, s.Seq)
		}
	}
	for i := range s.Connections {
		if err := s.Connections[i].check(); err != nil {
			return fmt.Errorf("state: connection %d: %w", i+1, err)
		}
	}
	return s.checkFDs()
}

func isStatus(n int) bool { return n >= 0 && n <= 255 }

func (p *Process) check(connections int) error {
	if !slices.Contains([]Phase{Created, Running, Paused, Stopped}, p.Phase) {
		return fmt.Errorf("unknown phase %q", p.Phase)
	}
	if p.Pid < 0 || p.Exit != nil && !isStatus(p.Exit.Status) {
		return fmt.Errorf("pid %d, exit %+v", p.Pid, p.Exit)
	}
	if p.Phase == Stopped && p.Exit == nil {
		return fmt.Errorf("stopped without an exit")
	}
	if (p.Phase == Running || p.Phase == Paused) && (p.Pid == 0 || p.Exit != nil) {
		return fmt.Errorf("%s without a process", p.Phase)
	}
	if st := p.Start; st != nil {
		if !slices.Contains([]Stage{Underway, Replied, Asked, Settled, Refused}, st.Stage) {
			return fmt.Errorf("unknown stage %q", st.Stage)
		}
		if st.Runtime < 0 || st.Connection < 0 || st.Connection > connections {
			return fmt.Errorf("start by runtime %d, answered on connection %d of %d", st.Runtime, st.Connection, connections)
		}
	}
	if p.Streams != nil {
		return p.Streams.check()
	}
	return nil
}

func (s *Streams) check() error {
	for i := range s.Outputs {
		o := &s.Outputs[i]
		if o.To == 0 && (o.From == 0 || o.Kind == Pipe) || !slices.Contains([]Kind{FIFO, File, Pipe}, o.Kind) {
			return fmt.Errorf("output %d: of kind %q, to descriptor %d", i, o.Kind, o.To)
		}
	}
	if s.Input != nil && s.Input.To == 0 && (s.Input.From == 0 || s.Terminal == 0) {
		return fmt.Errorf("input from descriptor %d to %d", s.Input.From, s.Input.To)
	}
	if s.Logger != nil && s.Logger.Pid < 0 {
		return fmt.Errorf("logger with pid %d", s.Logger.Pid)
	}
	return nil
}

func (c *Connection) check() error {
	if c.FD == 0 {
		return fmt.Errorf("no descriptor")
	}
	last := uint32(0)
	for _, f := range c.Requests {
		if len(f) < headerSize || len(f) > headerSize+maxPayload || int(binary.BigEndian.Uint32(f)) != len(f)-headerSize {
			return fmt.Errorf("a request of %d bytes is not a frame", len(f))
		}
		stream := binary.BigEndian.Uint32(f[4:])
		if f[8] != typeRequest || stream <= last {
			return fmt.Errorf("request of type %d on stream %d after %d", f[8], stream, last)
		}
		last = stream
	}
	if len(c.Partial) >= headerSize && int64(len(c.Partial)) >= headerSize+int64(binary.BigEndian.Uint32(c.Partial)) {
		return fmt.Errorf("a partial frame that is complete")
	}
	for _, e := range c.Errors {
		if e.Code < 0 || e.Code > 16 {
			return fmt.Errorf("error code %d on stream %d", e.Code, e.Stream)
		}
	}
	return nil
}

// checkFDs refuses numbers that cannot be descriptors, and a descriptor that is used
// twice: only a terminal may be both input and output of its process.
func (s *Shim) checkFDs() error {
	seen := map[FD]bool{}
	for _, fd := range s.fds() {
		if fd < 3 || fd > 1<<30 {
			return fmt.Errorf("state: descriptor %d", fd)
		}
		if seen[fd] {
			return fmt.Errorf("state: descriptor %d is used twice", fd)
		}
		seen[fd] = true
	}
	return nil
}

// FDs returns every descriptor in s, once each, in ascending order.
func (s *Shim) FDs() []FD {
	fds := s.fds()
	slices.Sort(fds)
	return slices.Compact(fds)
}

// fds returns every descriptor that is not 0, in any order.
func (s *Shim) fds() (fds []FD) {
	add := func(more ...FD) {
		for _, fd := range more {
			if fd != 0 {
				fds = append(fds, fd)
			}
		}
	}
	streams := func(st *Streams) {
		if st == nil {
			return
		}
		add(st.Terminal)
		if i := st.Input; i != nil {
			add(i.From, i.Keepalive, i.To)
		}
		for _, o := range st.Outputs {
			if o.From != st.Terminal {
				add(o.From)
			}
			add(o.To, o.Keepalive)
		}
		if l := st.Logger; l != nil {
			add(l.Pipes...)
		}
	}
	add(s.Listener)
	if s.Container != nil {
		streams(s.Container.Streams)
	}
	for i := range s.Execs {
		streams(s.Execs[i].Streams)
	}
	for i := range s.Leaving {
		streams(&s.Leaving[i])
	}
	for _, c := range s.Connections {
		add(c.FD)
	}
	return fds
}
