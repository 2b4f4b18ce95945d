// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"net"
	"time"

	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc"
	"containerd-shim.v1/reaper"

	"github.com/containerd/containerd/api/types"
	"github.com/sirupsen/logrus"
	"google.golang.org/protobuf/proto"
)

// Adopt gives a new Supervisor the state st, which another program of this process
// has saved. It is called before Run, while the Reaper of the Env is paused.
// Nothing is fatal: what cannot be taken over is logged, and a request for it is
// answered with an error. ctx bounds the wait for memory and descriptors. st must not
// be used again.
func (s *Supervisor) Adopt(ctx context.Context, st *state.Shim) {
	st.SetClocks()
	for _, event := range st.Events {
		e := new(types.Envelope)
		if err := proto.Unmarshal(event, e); err != nil {
			logrus.WithError(err).Error("adopt an event")
			continue
		}
		s.outbox.Put(e)
	}
	for i := range st.Connections {
		s.adoptConnection(ctx, &st.Connections[i], 1+i)
	}
	if st.Container == nil {
		return
	}
	ticket := s.env.Reaper.Begin() // open until the last start has ended
	var lost []func()
	a := proc.Adoption{Ticket: ticket, Lost: func(o any, e reaper.Exit) {
		lost = append(lost, func() { s.exits.take(o.(owner), e) })
	}}
	init := proc.AdoptInit(ctx, s.env, st.Container, a)
	execs := make([]*proc.Exec, len(st.Execs))
	for i := range st.Execs {
		execs[i] = proc.AdoptExec(ctx, init, &st.Execs[i], a)
	}
	s.setProcesses(ctx, st, init, execs, a)
	s.exits.adopt(st, init, execs)
	for _, fn := range lost {
		fn()
	}
	a.Lost = func(o any, e reaper.Exit) { s.exits.take(o.(owner), e); s.exits.nudge() }
	s.finishStarts(st, init, execs, a)
	if st.Container.Phase == state.Stopped {
		if !st.Told {
			s.clearUp(init, s.exits.close(), false)
		} else {
			s.endAlive(errContainerDied())
			s.endLingering(errContainerDied())
		}
	}
}

func (s *Supervisor) adoptConnection(ctx context.Context, c *state.Connection, number int) {
	conn, err := AdoptSocket(ctx, c.FD, net.FileConn)
	if err != nil {
		logrus.WithError(err).WithField("fd", c.FD).Error("adopt a connection")
		return
	}
	s.conns.adopt(conn, c, number)
	for _, r := range c.Requests {
		if binary, ok := asksForUpgrade(r); ok {
			s.upgraded.Store(&binary)
		}
	}
}

func (s *Supervisor) setProcesses(ctx context.Context, st *state.Shim, init *proc.Init, execs []*proc.Exec, a proc.Adoption) {
	var streams []proc.Streams
	for i := range st.Leaving {
		streams = append(streams, proc.AdoptStreams(ctx, s.env, &st.Leaving[i], a))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id, s.init = init.ID(), init
	for _, e := range execs {
		s.execs[e.ID()] = e
	}
	s.leaving.all = streams
	if d := st.Deleted; d != nil {
		snap := init.Snapshot()
		snap.Pid, snap.Phase, snap.Exit = d.Pid, proc.Deleted, proc.Exit{Status: d.Status, At: d.At}
		s.deleted = &snap
	}
}

// adopt takes over the exits that are held, and the starts. It is called before
// run. An exit with no recorded start of its wait begins to wait now: it
// must not overtake what is yet to be reaped, nor a start that is yet to be answered.
func (x *exits) adopt(st *state.Shim, init *proc.Init, execs []*proc.Exec) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if at := adoptStart(init, &st.Container.Process, true); at != nil {
		x.starts[init.ID()] = at
	}
	for i, e := range execs {
		if at := adoptStart(e, &st.Execs[i].Process, false); at != nil {
			x.starts[e.ID()] = at
		}
	}
	for _, h := range st.Held {
		one := heldExit{
			Exit: reaper.Exit{Seq: h.Seq, Pid: h.Pid, Status: h.Status, At: h.At},
			id:   h.ID, taken: h.Taken, start: x.starts[h.ID],
		}
		if one.taken.IsZero() {
			one.taken = time.Now()
		}
		if h.ID == init.ID() {
			x.last = &one
		} else {
			x.held = append(x.held, one)
		}
	}
	if st.Container.Phase == state.Stopped {
		x.closing = true
	}
	if x.told = st.Told; x.told {
		x.cleared = true
		close(x.over)
	}
}

// adoptStart returns the start of an adopted process, or nil if it was never
// started.
func adoptStart(o owner, p *state.Process, own bool) *start {
	if p.Pid == 0 && p.Start == nil {
		return nil
	}
	at := &start{
		owner: o, own: own, stage: settled, dead: p.Exit != nil,
		returned: make(chan struct{}), kill: func(error) {},
	}
	if p.Start != nil {
		for stage, name := range stages {
			if name == p.Start.Stage {
				at.stage = stage
			}
		}
		at.repliedAt, at.askedAt, at.polled = p.Start.RepliedAt, p.Start.AskedAt, p.Start.Polled
		at.number = p.Start.Connection
	}
	if at.stage != underway {
		close(at.returned)
	}
	return at
}

// connected notes that c is the adopted connection with this number.
func (x *exits) connected(number int, c *conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, st := range x.starts {
		if st.number == number {
			st.on = c
		}
	}
}

// begun is a start of p that the previous program had begun. Its result answers the
// next Start of p.
type begun struct {
	p    process
	done chan struct{} // closed when err is set
	err  error
}

func (b *begun) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("gave up waiting, the operation goes on: %w", ctx.Err())
	}
}

// begunBefore returns the start of p that the previous program had begun, and forgets
// it; nil if there is none.
func (s *Supervisor) begunBefore(p process) *begun {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.begun[p.ID()]
	if b == nil || b.p != p { // a later exec may have the id
		return nil
	}
	delete(s.begun, p.ID())
	return b
}

// finishStarts has every start that is underway finished in a goroutine of its own,
// and the ticket closed when all of them are over. It does not wait for them.
func (s *Supervisor) finishStarts(st *state.Shim, init *proc.Init, execs []*proc.Exec, a proc.Adoption) {
	type started interface {
		process
		FinishStart(ctx context.Context, a proc.Adoption, runtime *reaper.Child, pidFile string) error
	}
	all := make(map[started]*state.Start)
	add := func(p started, at *state.Start) {
		if at != nil && at.Stage == state.Underway {
			all[p] = at
		}
	}
	add(init, st.Container.Start)
	for i, e := range execs {
		add(e, st.Execs[i].Start)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = make(map[string]*begun, len(all))
	var ended []<-chan struct{}
	for p, at := range all {
		b := &begun{p: p, done: make(chan struct{})}
		s.begun[p.ID()] = b
		ended = append(ended, b.done)
		runtime := a.ClaimRuntime(at)
		_ = p.Lock(s.ctx) // cannot fail: nobody has locked a new process
		s.working.Enter()
		guard.Go("finish a start", func() {
			defer s.working.Leave()
			defer close(b.done)
			defer p.Unlock()
			b.err = guard.Call("start", func() error { return p.FinishStart(s.alive, a, runtime, at.PidFile) })
			if !s.exits.ended(s.exits.starting(p), outcomeOf(p, b.err)) && b.err == nil {
				s.killLate(p)
				b.err = errContainerDead()
			}
		})
	}
	go func() {
		for _, done := range ended {
			<-done
		}
		a.Ticket.Close()
	}()
}
