// SPDX-License-Identifier: Apache-2.0

package stdio

import "time"

// Limits are the times that the streams of a process wait.
type Limits struct {
	// Console bounds the wait for the console of a runtime that has returned:
	// it has sent the console by then.
	Console time.Duration
	// InputGrace is how long a client whose CloseIO overtook its own open of
	// the input FIFO is waited for.
	InputGrace time.Duration
	// HangUp is how long a terminal whose client is gone may leave unread what
	// that has typed.
	HangUp time.Duration
	// Drain is how long AwaitOutput waits while nothing moves.
	Drain time.Duration
	// DrainFlowing is how long Delete of init waits for output that flows: the
	// daemon kills the shim after it, and with it what is not in the FIFO yet.
	DrainFlowing time.Duration
	// Linger is how long, after ProcessDeleted, an output is kept on which
	// nothing happens: held open idle by a process that the deleted one left
	// behind, or waiting for a reader that does not come.
	Linger time.Duration
	// Room is how soon a write to a full file is tried again.
	Room time.Duration
	// A FIFO whose reader is awaited is looked at after ReaderSoon, and then
	// less and less often until it is once in ReaderPoll. poll(2) does not tell
	// of a reader that arrives. inotify(7) would, but all of root shares 128
	// instances by default, and where a daemon is down each container that ends
	// would take two of them from systemd and kubelet.
	ReaderSoon, ReaderPoll time.Duration
	// LoggerReady bounds how long a logger may take until it says that it is.
	LoggerReady time.Duration
	// LoggerEnd is how long a logger may take to end after its input has.
	LoggerEnd time.Duration
	// LoggerTerm is how long it then has between SIGTERM and SIGKILL.
	LoggerTerm time.Duration
}

// DefaultLimits are for people and daemons. Drain leaves room in the 2 s within
// which a Delete with a blocked output is to be answered; DrainFlowing in the 10 s
// after which CRI gives up.
func DefaultLimits() Limits {
	return Limits{
		Console:      10 * time.Second,
		InputGrace:   3 * time.Second,
		HangUp:       500 * time.Millisecond,
		Drain:        1500 * time.Millisecond,
		DrainFlowing: 6 * time.Second,
		Linger:       10 * time.Second,
		Room:         100 * time.Millisecond,
		ReaderSoon:   2 * time.Millisecond,
		ReaderPoll:   2 * time.Second,
		LoggerReady:  10 * time.Second,
		LoggerEnd:    10 * time.Second,
		LoggerTerm:   500 * time.Millisecond,
	}
}
