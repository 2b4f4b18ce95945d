// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc"

	"google.golang.org/protobuf/proto"
)

// settlePause is the time between two looks at whether the shim stands still.
const settlePause = time.Millisecond

// Freeze stops everything that could change the shim's state: until Thaw nothing is
// accepted, read, answered, run, published, copied or reaped. It waits until ctx
// ends for work that has begun; if that does not end, the error says which it is,
// and everything goes on. One caller at a time may use it.
//
//	requests ──► verbs, runtime ──► answers, events ──► streams ──► reaper, exits
//
// Things are stopped in this order because each makes work for those after it.
func (s *Supervisor) Freeze(ctx context.Context) error {
	frozen := false
	defer func() {
		if !frozen { // also after a panic
			s.Thaw()
		}
	}()
	s.conns.standStill()
	working := busy("a call of the runtime", &s.working)
	if err := settle(ctx, busy("a request", &s.conns.reads), s.conns.unanswered, working); err != nil {
		return err
	}
	s.working.Shut()
	s.outbox.gate.Shut()
	s.conns.writes.Shut()
	if err := settle(ctx, working, busy("an event", &s.outbox.gate), busy("an answer", &s.conns.writes), s.conns.unanswered); err != nil {
		return err
	}
	s.env.Streaming.Shut()
	for _, io := range s.streams() {
		io.Interrupt()
	}
	if err := settle(ctx, busy("a stream", s.env.Streaming)); err != nil {
		return err
	}
	s.env.Reaper.Pause()
	s.reaperPaused = true
	s.exits.gate.Shut()
	if err := settle(ctx, busy("an exit", &s.exits.gate)); err != nil {
		return err
	}
	if err := s.exits.rest(); err != nil {
		return err
	}
	frozen = true
	return nil
}

// Thaw undoes Freeze.
func (s *Supervisor) Thaw() {
	s.exits.gate.Open()
	s.exits.nudge() // for what was drained
	if s.reaperPaused {
		s.reaperPaused = false
		s.env.Reaper.Resume()
	}
	s.env.Streaming.Open()
	s.conns.writes.Open()
	s.outbox.gate.Open()
	s.working.Open()
	s.conns.goOn()
}

// busy returns a function that returns "" if nobody is inside g, and otherwise says that
// what, such as "a request", is at work.
func busy(what string, g *gate.Gate) func() string {
	return func() string {
		if n := g.Inside(); n > 0 {
			return fmt.Sprintf("%s is at work (%d)", what, n)
		}
		return ""
	}
}

// settle waits until all of whys return "". If ctx ends first, its error has the
// first reason that is left.
func settle(ctx context.Context, whys ...func() string) error {
	tick := time.NewTicker(settlePause)
	defer tick.Stop()
	for {
		why := ""
		for _, fn := range whys {
			if why = fn(); why != "" {
				break
			}
		}
		if why == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the shim does not come to rest: %s", why)
		}
	}
}

// streams returns the streams of all processes, and those that have outlived
// theirs.
func (s *Supervisor) streams() (all []proc.Streams) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.init != nil {
		all = append(all, s.init.Streams())
	}
	for _, p := range s.execs {
		all = append(all, p.Streams())
	}
	all = append(all, s.leaving.all...)
	return slices.DeleteFunc(all, func(io proc.Streams) bool { return io == nil })
}

// leaving are streams that outlive their processes.
type leaving struct {
	all []proc.Streams
	// limit is the length of all at which those that have ended are dropped. It
	// doubles with what is left, so that an add costs little on average.
	limit int
}

func (l *leaving) add(io proc.Streams) {
	if l.all = append(l.all, io); len(l.all) >= l.limit {
		l.dropEnded()
	}
}

func (l *leaving) dropEnded() {
	var left []proc.Streams
	for _, io := range l.all {
		if !io.Ended() {
			left = append(left, io)
		}
	}
	l.all, l.limit = left, 2*len(left)+8
}

// DropEnded forgets streams that have ended. DeleteProcess does so now and then;
// this is for a shim that gets no more calls.
func (s *Supervisor) DropEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving.dropEnded()
}

// Save returns the state of the shim, which must be frozen. Its error says what
// cannot be handed over.
func (s *Supervisor) Save() (*state.Shim, error) {
	conns, states, err := s.conns.save(s.exchanging)
	if err != nil {
		return nil, err
	}
	st := &state.Shim{Connections: states, Seq: s.env.Reaper.Seq()}
	if err := s.saveProcesses(st); err != nil {
		return nil, err
	}
	number := make(map[*conn]int, len(conns))
	for i, c := range conns {
		number[c] = 1 + i
	}
	s.exits.save(st, number)
	for _, e := range s.outbox.queued() {
		event, err := proto.Marshal(e)
		if err != nil {
			return nil, err
		}
		st.Events = append(st.Events, event)
	}
	st.Listener = s.conns.listenerFD()
	st.SetClocks()
	return st, nil
}

func (s *Supervisor) saveProcesses(st *state.Shim) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.init != nil {
		if st.Container, err = s.init.Save(); err != nil {
			return err
		}
	}
	for _, p := range s.execs {
		e, err := p.Save()
		if err != nil {
			return err
		}
		st.Execs = append(st.Execs, e)
	}
	for _, io := range s.leaving.all {
		one, err := io.Save()
		if err != nil {
			return err
		}
		if one != nil {
			st.Leaving = append(st.Leaving, *one)
		}
	}
	if d := s.deleted; d != nil {
		st.Deleted = &state.Deleted{Pid: d.Pid, Status: d.Exit.Status, At: d.Exit.At}
	}
	return nil
}

var stages = map[stage]state.Stage{
	underway: state.Underway, replied: state.Replied, asked: state.Asked, settled: state.Settled, refused: state.Refused,
}

// save adds the exits that are held, and the starts that they wait for; number
// gives each connection its number in the state.
func (x *exits) save(st *state.Shim, number map[*conn]int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	held := x.held
	if x.last != nil {
		held = append(held[:len(held):len(held)], *x.last)
	}
	for _, h := range held {
		st.Held = append(st.Held, state.Held{ID: h.id, Pid: h.Pid, Status: h.Status, At: h.At, Seq: h.Seq, Taken: h.taken})
	}
	st.Told = x.told
	if c := st.Container; c != nil {
		c.Start = x.starts[c.ID].save(number)
	}
	for i := range st.Execs {
		st.Execs[i].Start = x.starts[st.Execs[i].ID].save(number)
	}
}

// save returns nil if the start is not known, or still underway.
func (st *start) save(number map[*conn]int) *state.Start {
	if st == nil || st.stage == underway {
		return nil
	}
	return &state.Start{
		Stage: stages[st.stage], RepliedAt: st.repliedAt, AskedAt: st.askedAt,
		Connection: number[st.on], Polled: st.polled,
	}
}

// fdOf returns the descriptor of a socket, or 0 if it is closed or no socket.
func fdOf(of any) (fd state.FD) {
	if sc, ok := of.(syscall.Conn); ok {
		if rc, err := sc.SyscallConn(); err == nil {
			_ = rc.Control(func(n uintptr) { fd = state.FD(n) }) // fails only if it is closed
		}
	}
	return fd
}
