// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"testing"
	"time"

	"containerd-shim.v1/proc/internal/proctest"
)

func TestMain(m *testing.M) { proctest.Main(m, nil) }

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

// short are limits in the order of the real ones, which are for people and daemons.
func short() Limits {
	l := DefaultLimits()
	l.Drain, l.DrainFlowing, l.Stubborn = 200*time.Millisecond, 800*time.Millisecond, 200*time.Millisecond
	l.Linger, l.InputGrace, l.Ready = time.Second, time.Second, time.Second
	return l
}

// patient is short for a client that comes late, and so does a test of a busy machine.
func patient() Limits {
	l := short()
	l.Linger, l.InputGrace = patience, patience
	return l
}
