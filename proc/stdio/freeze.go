// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"os"

	"containerd-shim.v1/internal/state"
)

// Interrupt makes the copying goroutines come to the gate, which must be shut: they
// stand still once nobody is inside. Opening the gate lets them continue.
func (s *Streams) Interrupt() {
	s.order(orders{})
	if s.input != nil {
		s.input.interrupt()
	}
}

func (i *input) interrupt() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pump != nil {
		i.pump.interrupt(past)
	}
}

// Save returns what the streams are while they stand still, nil if they have
// ended. It fails for those of a start that is not over.
func (s *Streams) Save() (*state.Streams, error) {
	st := &state.Streams{}
	if s.console != nil {
		select {
		case <-s.console.arrived:
		default:
			return nil, errors.New("its terminal has not come yet")
		}
		s.console.save(st)
	}
	for _, o := range s.all() {
		if o.isHeld() {
			return nil, errors.New("its start is not over")
		}
		if o.state != closed {
			st.Outputs = append(st.Outputs, o.save())
		}
	}
	if s.input != nil {
		st.Input = s.input.save()
	}
	if s.log != nil {
		st.Logger = s.log.save()
	}
	s.mu.Lock()
	st.Deleted = s.orders.deleted
	s.mu.Unlock()
	if st.Terminal == 0 && st.Input == nil && len(st.Outputs) == 0 && st.Logger == nil {
		return nil, nil
	}
	return st, nil
}

// Ended reports whether nothing of the streams is open any more.
func (s *Streams) Ended() bool {
	for _, o := range s.all() {
		select {
		case <-o.ended:
		default:
			return false
		}
	}
	return (s.input == nil || s.input.isOver()) && (s.log == nil || s.log.ended())
}

func (c *console) save(st *state.Streams) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Terminal = fdOf(c.master)
}

// isHeld reports whether the start is not over. One that has just succeeded may
// have left the output in its state: the order is there, and the goroutine came to
// the gate before it.
func (o *output) isHeld() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state == held && !o.orders.released
}

func (o *output) save() state.Output {
	o.mu.Lock()
	defer o.mu.Unlock()
	st := state.Output{
		Path: o.sink.path, Kind: kinds[o.sink.kind], To: fdOf(o.sink.w), Pending: o.pending, Written: o.total,
		Met: o.sink.seen, HungUp: o.orders.hungUp, Moved: o.movedAt(),
	}
	if o.sink.keepalive >= 0 {
		st.Keepalive = state.FD(o.sink.keepalive)
	}
	if o.state < flushing {
		st.From = fdOf(o.src)
	} else {
		st.Since = o.since
	}
	return st
}

var kinds = [...]state.Kind{isFIFO: state.FIFO, isFile: state.File, isPipe: state.Pipe}

// save returns nil for an input that has ended, and for one whose terminal has: its
// goroutine sees that only when more is typed, or the process has exited.
func (i *input) save() *state.Input {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over || i.pump == nil || fdOf(i.pump.dst) == 0 {
		return nil
	}
	st := &state.Input{Path: i.path, From: fdOf(i.r), ClosedFirst: i.decision == toEnd, Pending: i.pump.pending}
	if i.keepalive >= 0 {
		st.Keepalive = state.FD(i.keepalive)
	}
	if !i.terminal {
		st.To = fdOf(i.pump.dst)
	}
	return st
}

func (i *input) isOver() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.over
}

// ended reports whether the logger is gone and no longer needed.
func (l *logger) ended() bool {
	for _, c := range []<-chan struct{}{l.child.Done(), l.stopped} {
		select {
		case <-c:
		default:
			return false
		}
	}
	return true
}

// save returns nil for a logger that has ended.
func (l *logger) save() *state.Logger {
	if l.ended() {
		return nil
	}
	st := &state.Logger{Path: l.path}
	select {
	case <-l.child.Done():
	default:
		st.Pid = l.child.Pid()
	}
	for _, f := range l.kept() {
		if fd := fdOf(f); fd != 0 {
			st.Pipes = append(st.Pipes, fd)
		}
	}
	return st
}

// fdOf returns f's descriptor, 0 if f is nil or closed. Unlike Fd it leaves f
// non-blocking.
func fdOf(f *os.File) (n state.FD) {
	if f != nil {
		control(f, func(fd int) { n = state.FD(fd) })
	}
	return n
}
