// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"testing"
	"time"

	"containerd-shim.v1/proc/internal/proctest"
	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"
)

func TestMain(m *testing.M) {
	proctest.Main(m, func(e reaper.Exit) { e.Owner.(interface{ RecordExit(reaper.Exit) Phase }).RecordExit(e) })
}

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
	l.Drain, l.DrainFlowing, l.Stubborn = 200*time.Millisecond, 800*time.Millisecond, 200*time.Millisecond
	l.Linger, l.InputGrace, l.Ready = time.Second, time.Second, time.Second
	return l
}

func reaperExit(status int) reaper.Exit {
	return reaper.Exit{Pid: 4711, Status: status, At: time.Now()}
}
