// SPDX-License-Identifier: Apache-2.0

package stdio

import "time"

// Limits are the times that the streams of a process wait.
type Limits struct {
	// Console bounds the wait for the console of a runtime that has returned:
	// it has sent the console by then.
	Console time.Duration
	// LateReader is how long output whose reader has not come yet is kept for
	// it. containerd's own shims wait as long for a FIFO's reader, before the
	// process is started, with everything else standing still.
	LateReader time.Duration
	// A FIFO whose reader is awaited is looked at after ReaderSoon, and then
	// less and less often until it is once in ReaderPoll. poll(2) does not tell
	// of a reader that arrives. inotify(7) would, but all of root shares 128
	// instances by default, and where a daemon is down each container that ends
	// would take two of them from systemd and kubelet.
	ReaderSoon, ReaderPoll time.Duration
	// InputGrace is how long a client whose CloseIO overtook its own open of
	// the input FIFO is waited for.
	InputGrace time.Duration
	// Held is how long, after ProcessDeleted, a pipe may stay open with nothing
	// in it, held by a process that the deleted one left behind.
	Held time.Duration
	// DrainHeld is how long AwaitOutput waits for a pipe that is held open idle.
	DrainHeld time.Duration
	// DrainSlow is how long it waits for a slow client.
	DrainSlow time.Duration
	// DrainTick is how often the pumps are looked at meanwhile.
	DrainTick time.Duration
	// LoggerReady bounds how long a logger may take until it says that it is.
	LoggerReady time.Duration
	// LoggerEnd is how long a logger may take to end after its input has.
	LoggerEnd time.Duration
	// LoggerTerm is how long it then has between SIGTERM and SIGKILL.
	LoggerTerm time.Duration
}

// DefaultLimits are for people and daemons.
func DefaultLimits() Limits {
	return Limits{
		Console:     10 * time.Second,
		LateReader:  30 * time.Second,
		ReaderSoon:  2 * time.Millisecond,
		ReaderPoll:  2 * time.Second,
		InputGrace:  3 * time.Second,
		Held:        10 * time.Second,
		DrainHeld:   2 * time.Second,
		DrainSlow:   10 * time.Second,
		DrainTick:   100 * time.Millisecond,
		LoggerReady: 10 * time.Second,
		LoggerEnd:   10 * time.Second,
		LoggerTerm:  500 * time.Millisecond,
	}
}
