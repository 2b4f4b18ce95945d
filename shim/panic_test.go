// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"sync/atomic"
	"testing"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
)

// TestPanicWhileTheRestIsKilled: the container's watcher runs on, its exit is
// published and Delete does not wait for it in vain.
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

// TestPanicInAnExecsWatcher: the exit is published, and the container's, which
// waits for the execs', is not held back.
func TestPanicInAnExecsWatcher(t *testing.T) {
	r := newRig(t, false)
	r.run()
	r.must(r.exec("e", "wait", "7"))
	_, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "e"})
	r.must(err)
	r.sup.mu.Lock()
	r.sup.replies["e"] = nil // awaitReply dies of it
	r.sup.mu.Unlock()
	r.runtime.endExec(t)
	if got := r.wait("e").ExitStatus; got != 7 {
		t.Errorf("status %d, want 7", got)
	}
	r.published(1)
	r.runtime.endInit(t)
	if got := r.published(2); got[0] != "e" || got[1] != containerID {
		t.Errorf("exits of %v", got)
	}
}

// TestPanicInThePublisher: the event was not taken, and is sent again.
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
