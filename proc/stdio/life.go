// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"strings"
	"time"

	"containerd-shim.v1/internal/guard"
)

// maxWords bounds what RuntimeOutput returns: the end of the runtime's message.
const maxWords = 4096

// order gives an order to all outputs, also to those that are opened later.
func (s *Streams) order(o orders) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = s.orders.plus(o)
	for _, out := range s.outputs {
		out.order(o)
	}
}

// all returns the outputs.
func (s *Streams) all() []*output {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*output(nil), s.outputs...)
}

// Started is called when the start is known to have succeeded: what was held
// back of the output is the process's, and reaches the client.
func (s *Streams) Started() { s.order(orders{released: true}) }

// RuntimeOutput is called when the start has failed and the runtime has returned. It
// returns the end of what was written in place of the process's output, preferably
// on stderr, and does not pass it to the client. It returns nothing for a logger, or
// if more was written than is held back.
func (s *Streams) RuntimeOutput() string {
	s.order(orders{aborted: true})
	words := ""
	for _, o := range s.all() {
		<-o.decided // at once: held output waits for nothing but orders
		if len(o.words) > 0 {
			words = string(o.words[max(0, len(o.words)-maxWords):])
		}
	}
	return strings.ToValidUTF8(words, "")
}

// HoldInput begins to copy the input. The client may come and go from then on
// without ending it, unless CloseInput was before. It may be repeated. Its error,
// with a class as Open's, means that the FIFO could not be opened for writing.
func (s *Streams) HoldInput() error {
	if s.input == nil {
		return nil
	}
	return s.input.hold()
}

// CloseInput is CloseIO: the process sees the end of its input once its client
// has closed it as well. It may be repeated.
func (s *Streams) CloseInput() {
	if s.input != nil {
		s.input.end()
	}
}

// ProcessExited ends the input, which nothing is left to read, and a terminal: at once
// if nobody has it open, or after Limits.Stubborn. A client waits for that, and docker up
// to 18.09 handles no other event of the container until it has come. It may be repeated.
func (s *Streams) ProcessExited() {
	s.order(orders{exited: time.Now()})
	if s.input != nil {
		s.input.exit()
	}
}

// AwaitOutput returns when all output was copied, or when there is no point in
// waiting longer: nothing has moved for Limits.Drain, because the process's end is
// held open idle or the client does not read, or longest has passed.
func (s *Streams) AwaitOutput(longest time.Duration) {
	start := time.Now()
	for since := start; ; {
		due := start.Add(longest)
		if quiet := since.Add(s.limits.Drain); quiet.Before(due) {
			due = quiet
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-s.drained:
			timer.Stop()
			return
		case <-timer.C:
		}
		moved := s.lastMoved()
		if !moved.After(since) || time.Since(start) >= longest {
			return
		}
		since = moved
	}
}

// lastMoved returns when a byte was moved last on any output.
func (s *Streams) lastMoved() (last time.Time) {
	for _, o := range s.all() {
		if moved := o.movedAt(); moved.After(last) {
			last = moved
		}
	}
	return last
}

// ProcessDeleted closes what is still open, without losing a byte of the process's that
// somebody reads: output is still copied. What does not end is given up after
// Limits.Linger, or when nothing has moved for that long if its reader is slower than the
// writer. It may be repeated.
func (s *Streams) ProcessDeleted() {
	s.ProcessExited()
	s.order(orders{released: true, deleted: time.Now()})
	s.stopLogger(s.limits.Linger)
}

// Abort undoes Open: there will be no process. Nothing more reaches the client.
func (s *Streams) Abort() {
	s.RuntimeReturned()
	s.order(orders{aborted: true})
	if s.console != nil {
		s.console.close()
	}
	s.ProcessExited()
	if s.log != nil {
		s.log.abort()
	}
}

func (s *Streams) stopLogger(grace time.Duration) {
	if s.log != nil {
		guard.Go("stop the logger", func() { s.log.stop(grace) })
	}
}
