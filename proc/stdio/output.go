// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"containerd-shim.v1/internal/gate"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

const (
	// holdLimit bounds what is kept back before the start is known to have
	// succeeded, in addition to what the pipe holds. A runtime, or a hook, that
	// writes more is not stopped: its output is passed on then.
	holdLimit = 64 << 10
	// hangUpLimit is how much is read of a terminal that is hung up: more than
	// the kernel keeps for it (64 KiB in tty_buffer.c, 4 KiB in n_tty.c).
	hangUpLimit = 128 << 10
)

// output is one stream of the process's output on its way to the client. Its
// goroutine is run; others give it orders and read moved, decided and, once that
// is closed, words.
type output struct {
	pump
	sink   *sink
	limits Limits
	gate   *gate.Gate
	state  outputState
	since  time.Time // when state was reached
	// retry is when a write to a file that fails is tried again; 0 if none does.
	retry time.Duration
	// closeSource closes the process's end.
	closeSource func()
	// drained is called once, when all that came has reached the client or was
	// given up.
	drained func()
	// decided is closed when nothing is held back any more. If the start has
	// failed, words is then what was held back.
	decided chan struct{}
	words   []byte
	// ended is closed with the state closed.
	ended chan struct{}
	// changed has a value when there are orders that were not looked at.
	changed chan struct{}
	// moved is when a byte was moved last, in nanoseconds after base.
	moved atomic.Int64

	mu sync.Mutex
	// +checklocks:mu
	orders orders
}

func newOutput(src *os.File, spliced bool, to *sink, l Limits) *output {
	o := &output{
		pump: pump{src: src, dst: to.w, spliced: spliced && to.kind == isFIFO}, sink: to, limits: l,
		decided: make(chan struct{}), ended: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	o.setMoved(time.Now())
	return o
}

// order adds to the orders and wakes the goroutine, whatever it waits for.
func (o *output) order(add orders) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.orders = o.orders.plus(add)
	o.interrupt(past)
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// look returns the orders, and lets the next step wait until deadline. While the gate
// is shut, the output stands still here.
func (o *output) look() (ord orders, deadline time.Time) {
	for {
		o.gate.Pass()
		ord, deadline = o.lookNow()
		if !o.gate.IsShut() { // or the deadline would undo the interrupt that followed
			return ord, deadline
		}
	}
}

func (o *output) lookNow() (ord orders, deadline time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	deadline = o.facts(o.orders).deadline(o.limits.Linger)
	o.interrupt(deadline)
	return o.orders, deadline
}

// processLives reports whether the process may still write.
func (o *output) processLives() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.orders.exited.IsZero() && !o.orders.aborted
}

// base is some moment of this program. By it, times can be kept as numbers that do not
// depend on the wall clock, which may be set at any time.
var base = time.Now()

func (o *output) setMoved(at time.Time) { o.moved.Store(int64(at.Sub(base))) }

// movedAt returns when a byte was moved last.
func (o *output) movedAt() time.Time { return base.Add(time.Duration(o.moved.Load())) }

func (o *output) facts(ord orders) facts {
	f := facts{
		state: o.state, since: o.since, deleted: ord.deleted, moved: o.movedAt(),
		blocked: o.blocked, kept: o.sink.kept(),
	}
	if o.inUse != nil && !ord.exited.IsZero() {
		f.hangUp = ord.exited.Add(o.limits.Stubborn)
	}
	if o.state == waiting {
		f.unread = o.sink.unread() > 0
		f.met = o.sink.seen || o.total > 0 && !f.unread
	}
	return f
}

// run takes the output through its states.
func (o *output) run() {
	o.gate.Enter()
	defer o.gate.Leave()
	defer o.advance(over) // after a panic
	for o.state != closed {
		o.advance(o.step())
	}
}

// advance makes e happen.
func (o *output) advance(e outputEvent) {
	was := o.state
	if o.state = was.after(e); o.state != was {
		o.since = time.Now()
	}
	if was == held && o.state != held {
		close(o.decided)
		o.interrupt(past) // for the orders that were not for hold
	}
	if was < flushing && flushing <= o.state {
		o.closeSource()
	}
	if was < waiting && waiting <= o.state {
		o.drained()
	}
	if was < closed && o.state == closed {
		o.sink.close()
		close(o.ended)
	}
}

// step does what the state demands until something happens.
func (o *output) step() outputEvent {
	switch o.state {
	case held:
		return o.hold()
	case copying:
		return o.move(o.pump.step, end)
	case flushing:
		return o.move(o.flush, flushed)
	default:
		return o.awaitReader()
	}
}

// hold keeps back what comes until the start has succeeded or failed.
func (o *output) hold() outputEvent {
	for {
		ord, _ := o.look()
		switch {
		case ord.aborted:
			o.drain(holdLimit)
			o.words = o.pending
			return over
		case ord.released, len(o.pending) >= holdLimit:
			return release
		}
		if _, err := o.fill(holdLimit - len(o.pending)); err != nil && !timedOut(err) {
			<-o.changed // at the end; it is seen again
		}
	}
}

// move takes steps until one finds the end, which is then the event done.
func (o *output) move(step func() (int, error), done outputEvent) outputEvent {
	for {
		n, err := step()
		if n > 0 {
			o.setMoved(time.Now())
			o.retry = 0
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			return done
		case !timedOut(err) && o.sink.kind != isFile:
			return over // its reader is gone for good
		}
		ord, deadline := o.look()
		switch {
		case ord.aborted:
			return over
		case o.state == copying && (ord.hungUp || due(deadline) && (o.inUse != nil || !o.blocked)):
			o.drain(o.inside()) // the process may have written it
			return end
		case due(deadline) && !o.blocked:
			return end
		case due(deadline) && o.sink.kind == isFIFO:
			o.sink.closeKeepalive() // whoever reads is waited for
		case due(deadline):
			return over
		case !timedOut(err):
			o.awaitRoom(err, deadline)
		}
	}
}

// inside returns how much may be in the process's end.
func (o *output) inside() int {
	if o.inUse != nil {
		return hangUpLimit
	}
	size := 0
	control(o.src, func(fd int) { size, _ = unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0) }) // it is a pipe
	return size
}

// awaitRoom waits a while after a write to a file has failed with err. A full disk, or
// quota, is treated like a full pipe: the process waits until the write succeeds.
func (o *output) awaitRoom(err error, deadline time.Time) {
	if o.retry == 0 {
		logrus.WithError(err).WithField("path", o.sink.path).Warn("output waits until it can be written")
		o.retry = o.limits.PollSoon
	}
	o.pause(o.retry, deadline)
	o.retry = min(2*o.retry, o.limits.PollLate)
}

// awaitReader ends the output after its last byte was written. The bytes are in
// the FIFO, which lives as long as somebody has it open, so with a client there
// it is closed at once. A client that is late still finds the output, and its
// end.
func (o *output) awaitReader() outputEvent {
	o.sink.closeKeepalive()
	for wait := o.limits.PollSoon; ; wait = min(2*wait, o.limits.PollLate) {
		ord, deadline := o.look()
		if ord.aborted || due(deadline) || o.sink.kind != isFIFO || o.sink.hasReader() || o.sink.abandoned() {
			return over
		}
		o.pause(wait, deadline)
	}
}

// pause waits for d, or until the deadline or an order.
func (o *output) pause(d time.Duration, deadline time.Time) {
	if !deadline.IsZero() {
		d = min(d, time.Until(deadline))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-o.changed:
	}
}

func due(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

// past is a deadline that interrupts whatever waits.
var past = time.Unix(1, 0)

// timedOut reports whether err comes from interrupt.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
