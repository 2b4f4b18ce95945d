// SPDX-License-Identifier: Apache-2.0

package stdio

import "time"

// Limits are the times that the streams of a process wait.
type Limits struct {
	// Ready bounds the wait for what a start needs: the console of a runtime
	// that has returned and so has sent it, a logger that is to say that it is
	// ready.
	Ready time.Duration
	// InputGrace is how long a client whose CloseIO overtook its own open of
	// the input FIFO is waited for.
	InputGrace time.Duration
	// Stubborn is how long what is told to end may take: a logger after SIGTERM,
	// a terminal that leaves unread what a client has typed who is gone.
	Stubborn time.Duration
	// Drain is how long AwaitOutput waits while nothing moves.
	Drain time.Duration
	// DrainFlowing is how long Delete of init waits for output that flows: the
	// daemon kills the shim after it, and with it what is not in the FIFO yet.
	DrainFlowing time.Duration
	// Linger is how long, after ProcessDeleted, what does not end by itself is
	// kept: a logger, and an output on which nothing happens, be it held open
	// idle by a process that the deleted one left behind or waiting for a
	// reader that does not come.
	Linger time.Duration
	// What cannot be waited for is tried again after PollSoon, and then less
	// and less often until it is once in PollLate: a full file, and a FIFO whose
	// reader has not come. poll(2) does not tell of a reader that arrives.
	// inotify(7) would, but all of root shares 128 instances by default, and
	// where a daemon is down each container that ends would take two of them
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
