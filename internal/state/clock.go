// SPDX-License-Identifier: Apache-2.0

package state

import "time"

// SetClocks expresses the times since which something waits by the clocks as they are now.
// A file has only the wall clock's time, which may be set while the shim runs. A writer
// that has measured with the monotonic clock calls it before Write, and a reader that goes
// on measuring calls it after Read. What would be in the future has just happened, so that
// nobody waits for longer than the whole time-out.
//
// The times of deaths stay: clients are told what the clock showed.
func (s *Shim) SetClocks() {
	now := time.Now()
	set := func(all ...*time.Time) {
		for _, t := range all {
			if !t.IsZero() {
				*t = now.Add(-max(0, now.Sub(*t)))
			}
		}
	}
	streams := func(st *Streams) {
		if st == nil {
			return
		}
		set(&st.Deleted)
		for i := range st.Outputs {
			set(&st.Outputs[i].Since, &st.Outputs[i].Moved)
		}
	}
	process := func(p *Process) {
		if p.Start != nil {
			set(&p.Start.RepliedAt, &p.Start.AskedAt)
		}
		streams(p.Streams)
	}
	if s.Container != nil {
		process(&s.Container.Process)
	}
	for i := range s.Execs {
		process(&s.Execs[i].Process)
	}
	for i := range s.Leaving {
		streams(&s.Leaving[i])
	}
	for i := range s.Held {
		set(&s.Held[i].Taken)
	}
}
