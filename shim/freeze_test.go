// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc"
	"containerd-shim.v1/reaper"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"
)

// freeze tries once, for a second.
func (r *rig) freeze() error {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	return r.sup.Freeze(ctx)
}

// faulty are streams that panic: in Save, and while they are broken in Interrupt.
// They have ended when they are not broken.
type faulty struct{ broken bool }

func (f *faulty) Interrupt() {
	if f.broken {
		panic("boom")
	}
}
func (f *faulty) Save() (*state.Streams, error) { panic("boom") }
func (f *faulty) Ended() bool                   { return !f.broken }

// TestPanicInAnExchange: the request gets an error, and the shim goes on.
func TestPanicInAnExchange(t *testing.T) {
	r := newRig(t, false)
	r.run()
	f := &faulty{broken: true}
	r.sup.mu.Lock()
	r.sup.leaving.add(f)
	r.sup.mu.Unlock()
	asked := calling(func() error { return r.sup.Upgrade(r.ctx(), "/bin/true") })
	u := receive(t, "request", r.sup.Upgrades())
	u.Do(func(string) error { return r.freeze() })
	if err := receive(t, "answer", asked); err == nil {
		t.Error("the exchange has succeeded")
	}
	r.execRun("e", "exit", "3")
	if got := r.wait("e").ExitStatus; got != 3 {
		t.Errorf("an exec after it: status %d", got)
	}
	f.broken = false
	r.must(r.freeze())
	if err := guard.Call("save", func() error { _, err := r.sup.Save(); return err }); err == nil {
		t.Error("a panic while saving was not reported")
	}
	r.sup.Thaw()
	r.state(containerID)
}

// TestFreezeBeforeAnyExitIsTaken: before Run, delivered exits may be waiting that
// nobody has taken.
func TestFreezeBeforeAnyExitIsTaken(t *testing.T) {
	env := &proc.Env{Reaper: testReaper, Monitor: reaper.NewMonitor(testReaper, reaper.DefaultLimits())}
	sup := NewSupervisor(t.Context(), env, NewOutbox(&daemon{}), testLimits)
	if err := sup.Freeze(t.Context()); err == nil {
		t.Error("frozen before Run")
		sup.Thaw()
	}
}

// TestFreezeWhileAPausedContainerDies: what is left in the container can die only
// once it is resumed, and only this program knows that it was paused.
func TestFreezeWhileAPausedContainerDies(t *testing.T) {
	r := newRig(t, false)
	pid := r.run()
	_, err := r.client.Pause(r.ctx(), empty)
	r.must(err)
	r.sup.working.Shut() // clearUp's goroutine waits
	r.must(unix.Kill(pid, unix.SIGKILL))
	r.wait(containerID)
	if err := r.freeze(); err == nil {
		t.Error("frozen before what is left was killed")
		r.sup.Thaw()
	}
	r.published(1)
	if n := r.runtime.called("resume"); n != 1 {
		t.Errorf("resumed %d times", n)
	}
	r.must(r.freeze())
	r.sup.Thaw()
}

// TestFreezeBeforeAWaitOfWhatIsDeletedIsAnswered: the next program does not know the
// process, and would say that there is none. Found by the model (WAIT_LEFT).
func TestFreezeBeforeAWaitOfWhatIsDeletedIsAnswered(t *testing.T) {
	for id, remove := range map[string]func(*Supervisor, context.Context) error{
		"e":         func(s *Supervisor, ctx context.Context) error { _, err := s.DeleteExec(ctx, "e"); return err },
		containerID: func(s *Supervisor, ctx context.Context) error { _, err := s.Delete(ctx); return err },
	} {
		t.Run(id, func(t *testing.T) {
			r := newRig(t, false)
			r.run()
			want := uint32(7)
			if id == containerID {
				r.must(r.kill("", uint32(unix.SIGKILL)))
				want = 128 + uint32(unix.SIGKILL)
			} else {
				r.execRun(id, "exit", "7")
			}
			r.published(1)
			r.sup.conns.writes.Shut() // no answer gets out
			var exit *api.WaitResponse
			waited := calling(func() (err error) { exit, err = r.client.Wait(r.ctx(), &api.WaitRequest{ID: id}); return err })
			eventually(t, "the Wait", func() bool { return r.sup.conns.list()[0].awaits(id) })
			buf := make([]byte, 1<<20)
			eventually(t, "its answer", func() bool { return strings.Contains(string(buf[:runtime.Stack(buf, true)]), "shim.(*conn).Write(") })
			r.must(remove(r.sup, r.ctx()))
			if err := r.freeze(); err == nil || !strings.Contains(err.Error(), "Wait "+id+" is not answered") {
				t.Errorf("frozen while a Wait was not answered, of what was deleted: %v", err)
				r.sup.Thaw()
			}
			r.must(receive(t, "the answer", waited))
			if exit.ExitStatus != want {
				t.Errorf("status %d, want %d", exit.ExitStatus, want)
			}
			r.must(r.freeze())
			r.sup.Thaw()
		})
	}
}

// awaits reports whether a Wait for the process is open.
func (c *conn) awaits(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, open := range c.calls {
		if open.method == "Wait" && open.id == id {
			return true
		}
	}
	return false
}

// TestVerbThatIsAboutToBegin counts as work, although its caller is gone and its
// goroutine has not run yet.
func TestVerbThatIsAboutToBegin(t *testing.T) {
	r := newRig(t, false)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // another goroutine hardly runs before this one waits
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	err := r.sup.detach(gone, t.Context(), func(context.Context) error { close(begun); <-goOn; return nil })
	n := r.sup.working.Inside()
	if !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("%v, and %d are at work, want 1", err, n)
	}
	close(goOn)
	receive(t, "begin", begun)
}

// TestStreamsThatHaveEndedAreForgotten: also if no further call comes.
func TestStreamsThatHaveEndedAreForgotten(t *testing.T) {
	s := NewSupervisor(t.Context(), &proc.Env{}, NewOutbox(&daemon{}), testLimits)
	all := make([]faulty, 100)
	s.mu.Lock()
	for i := range all {
		all[i].broken = true // it has not ended
		s.leaving.add(&all[i])
	}
	s.mu.Unlock()
	for i := range all[1:] {
		all[i].broken = false
	}
	s.DropEnded()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.leaving.all); n != 1 {
		t.Errorf("%d are kept, want the one that has not ended", n)
	}
}
