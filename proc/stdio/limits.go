// SPDX-License-Identifier: Apache-2.0

package stdio

import "time"

// Limits are the times that the streams of a process wait.
type Limits struct {
	// Ready bounds the wait for what a start needs: a console, which the runtime
	// must have sent before it returned, and a logger's message that it is ready.
	Ready time.Duration
	// InputGrace is how long to wait for a client whose CloseIO overtook its own
	// open of the input FIFO.
	InputGrace time.Duration
	// Stubborn is how long something that was told to end may take: a logger after
	// SIGTERM, a terminal that does not read what a client typed before it left, or one
	// whose process has exited and that others have open.
	Stubborn time.Duration
	// Drain is how long AwaitOutput waits while nothing moves.
	Drain time.Duration
	// DrainFlowing is how long Delete of init waits for output that flows: the
	// daemon kills the shim after it, and with it what is not in the FIFO yet.
	DrainFlowing time.Duration
	// Linger is how long, mostly after ProcessDeleted, something is kept that does not end
	// by itself: a logger, or an output, because a process that was left behind holds it
	// open, or because its reader does not come.
	Linger time.Duration
	// A full file, and a FIFO whose reader has not come, are polled with back-off,
	// from PollSoon to PollLate. poll(2) does not report a reader that arrives.
	// inotify(7) would, but by default all processes of root share 128 instances,
	// and while a daemon is down each container that ends would take two of them
	// from systemd and kubelet.
	PollSoon, PollLate time.Duration
}

// DefaultLimits are for people and daemons. Drain leaves room in the 2 s within
// which a Delete with a blocked output is to be answered; DrainFlowing in the 10 s
// after which CRI gives up.
func DefaultLimits() Limits {
	return Limits{
		Ready:        10 * time.Second,
		InputGrace:   3 * time.Second,
		Stubborn:     500 * time.Millisecond,
		Drain:        1500 * time.Millisecond,
		DrainFlowing: 6 * time.Second,
		Linger:       10 * time.Second,
		PollSoon:     2 * time.Millisecond,
		PollLate:     2 * time.Second,
	}
}
