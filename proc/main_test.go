// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"testing"
	"time"

	"containerd-shim/proc/internal/proctest"
	"containerd-shim/proc/stdio"
	"containerd-shim/reaper"
)

func TestMain(m *testing.M) { proctest.Main(m) }

// patience bounds what must happen soon.
const patience = proctest.Patience

// The helpers that most tests use, by short names.
var (
	within   = proctest.Within
	census   = proctest.Census
	fifo     = proctest.FIFO
	attach   = proctest.Attach
	openFifo = proctest.OpenFIFO
)

// shortLimits keep the order of the real ones, which are for people and daemons.
func shortLimits() stdio.Limits {
	l := stdio.DefaultLimits()
	l.DrainTick, l.DrainHeld, l.DrainSlow, l.Held = 10*time.Millisecond, 200*time.Millisecond, 800*time.Millisecond, time.Second
	l.LateReader, l.InputGrace, l.Console = 2*time.Second, time.Second, time.Second
	l.LoggerReady, l.LoggerEnd, l.LoggerTerm = 500*time.Millisecond, 500*time.Millisecond, 200*time.Millisecond
	return l
}

func reaperExit(status int) reaper.Exit {
	return reaper.Exit{Pid: 4711, Status: status, At: time.Now()}
}
