// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"sync/atomic"
	"testing"
)

// TestPanicWhileTheRestIsKilled: the container's exit is published all the same,
// and Delete does not wait for it in vain.
func TestPanicWhileTheRestIsKilled(t *testing.T) {
	r := newRig(t, true)
	r.run()
	r.execRun("e", "wait", "0")
	r.runtime.on("kill", func(string) error { panic("boom") })
	r.runtime.endInit(t)
	if got := r.published(2); got[1] != containerID {
		t.Errorf("exits of %v", got)
	}
	if resp, err := r.delete(); err != nil || resp.ExitStatus != 0 {
		t.Errorf("Delete: %v, %v", resp, err)
	}
}

// TestPanicInThePublisher: the event counts as not taken, and is sent again.
func TestPanicInThePublisher(t *testing.T) {
	r := newRig(t, false)
	var once atomic.Bool
	r.daemon.refuseBy(func() error {
		if once.CompareAndSwap(false, true) {
			panic("boom")
		}
		return nil
	})
	r.run()
	r.runtime.endInit(t)
	if got := r.published(1); got[0] != containerID || !once.Load() {
		t.Errorf("exits of %v", got)
	}
}
