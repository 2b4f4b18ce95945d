// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"testing"
	"time"

	"containerd-shim.v1/internal/stackdump"
	"containerd-shim.v1/internal/state"
)

// TestHalfDeletedExec: v1.2.0 deletes an exec first, and takes it from its table later,
// under a lock for which it waits for ever once it is wedged. Such a shim was refused, and
// -kill ended its container. A container that is being deleted is refused still.
func TestHalfDeletedExec(t *testing.T) {
	r := &reader{}
	at := time.Unix(1, 0)
	for _, c := range []struct {
		pid, status, want int
	}{{12, 7, 7}, {0, 0, 255}} {
		o := &object{exec: true, phaseName: "deletedState", status: c.status, exited: at}
		o.ID, o.Pid = "e1", c.pid
		if err := errors.Join(r.phase(o), r.streams(o)); err != nil {
			t.Fatal(err)
		}
		if o.Phase != state.Stopped || o.Exit.Status != c.want || !o.Exit.At.Equal(at) || o.Streams == nil {
			t.Errorf("pid %d: %+v, exit %+v", c.pid, o.Process, o.Exit)
		}
	}
	init := &object{phaseName: "deletedState"}
	if err := r.phase(init); !errors.Is(err, ErrRefused) {
		t.Errorf("the container: %v, want %v", err, ErrRefused)
	}
}

// TestCallBeforeItsFork: a call that waits for the reaper's lock has forked no runtime.
// That it might have sent its signal was said of it, and the signal was dropped.
func TestCallBeforeItsFork(t *testing.T) {
	call := func(frames ...string) *pending {
		g := &stackdump.Goroutine{}
		for _, f := range frames {
			g.Frames = append(g.Frames, stackdump.Frame{Func: f})
		}
		return &pending{g: g}
	}
	const exec, kill = "github.com/containerd/go-runc.(*Monitor).Start", "github.com/containerd/go-runc.(*Runc).Kill"
	waits := call("sync.(*Mutex).Lock", "github.com/containerd/containerd/reaper.(*Monitor).Subscribe", exec, kill)
	works := call("github.com/containerd/containerd/reaper.(*Monitor).Wait", exec, kill)
	if waits.begun() || !works.begun() {
		t.Errorf("begun: %v before the fork, %v after it", waits.begun(), works.begun())
	}
}
