// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"containerd-shim/internal/poll"
	"containerd-shim/proc"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestInitExitComesLast is B20: the exits of the execs that are killed with a
// container that has no pid namespace come before the container's own.
func TestInitExitComesLast(t *testing.T) {
	r := newRig(t, true)
	r.run()
	want := []string{}
	for i := range 5 {
		id := fmt.Sprintf("e%d", i)
		r.execRun(id, "wait", "0")
		want = append(want, id)
	}
	r.must(r.kill(containerID, 9))
	got := r.published(6)
	slices.Sort(got[:5])
	if want = append(want, containerID); !slices.Equal(got, want) {
		t.Errorf("exits %q, want the execs' and then %s", got, containerID)
	}
}

// TestInitExitComesLastWhileTheDaemonIsAway is B20 with a daemon that takes nothing meanwhile:
// init dies first, but must not pass the others in the queue.
func TestInitExitComesLastWhileTheDaemonIsAway(t *testing.T) {
	r := newRig(t, true)
	r.run()
	r.daemon.refuseBy(func() error { return errRefused })
	r.execRun("first", "exit", "0") // stands at the head of the queue
	r.wait("first")
	for i := range 3 {
		r.execRun(fmt.Sprintf("e%d", i), "wait", "0")
	}
	r.must(r.kill(containerID, 9))
	receive(t, "the container's exit", r.sup.exitQueued)
	r.daemon.refuseBy(nil)
	got := r.published(5)
	if got[0] != "first" || got[4] != containerID {
		t.Errorf("exits %q, want first ... %s", got, containerID)
	}
}

// TestExecLandsWhileInitDies is B21: an exec whose runtime returns after the
// container's death is killed, its Start fails, and it does not hold the
// container's exit up.
func TestExecLandsWhileInitDies(t *testing.T) {
	r := newRig(t, true)
	r.run()
	atRuntime, release := make(chan struct{}), make(chan struct{})
	r.runtime.on("exec-end", func(string) error {
		close(atRuntime)
		<-release
		return nil
	})
	r.must(r.exec("late", "wait", "0"))
	started := make(chan error, 1)
	go func() {
		_, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "late"})
		started <- err
	}()
	receive(t, "the exec's runtime", atRuntime)
	r.must(r.kill(containerID, 9))
	eventually(t, "no more execs", func() bool {
		r.sup.mu.Lock()
		defer r.sup.mu.Unlock()
		return r.sup.dying
	})
	close(release)
	err := receive(t, "answer to Start", started)
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Start of an exec in a dead container: %v", err)
	}
	if got := r.published(1); !slices.Equal(got, []string{containerID}) {
		t.Errorf("exits %q, want only %s", got, containerID)
	}
	if err := r.exec("later", "wait", "0"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Exec in a dead container: %v", err)
	}
}

// TestManyExecsWhileInitIsKilled is B20's second generation: the exit comes,
// last, and each exec that was started has one exit.
func TestManyExecsWhileInitIsKilled(t *testing.T) {
	r := newRig(t, true)
	r.run()
	const n = 500
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		started = make(map[string]bool)
		half    = make(chan struct{})
		once    sync.Once
	)
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			id := fmt.Sprintf("e%d", i)
			if r.exec(id, "wait", "0") != nil {
				return // the container is dead
			}
			if i >= n/4 {
				once.Do(func() { close(half) })
			}
			_, err := r.client.Start(r.ctx(), &api.StartRequest{ID: id})
			if err == nil {
				mu.Lock()
				started[id] = true
				mu.Unlock()
			}
		}()
	}
	receive(t, "a quarter of the execs", half)
	r.must(r.kill(containerID, 9))
	wg.Wait()
	receive(t, "the container's exit", r.sup.exitQueued)
	got := r.published(len(started) + 1)
	if got[len(got)-1] != containerID {
		t.Errorf("the last of %d exits is %s", len(got), got[len(got)-1])
	}
	for _, id := range got[:len(got)-1] {
		if !started[id] {
			t.Errorf("exit of %s, which was not started or had one already", id)
		}
		delete(started, id)
	}
	if len(started) != 0 {
		t.Errorf("no exit of %d execs", len(started))
	}
}

// TestExitIsHeldForTheReply: containerd publishes the start after our reply,
// and asks for the State then; the exit must not overtake it. State and Wait
// know it at once.
func TestExitIsHeldForTheReply(t *testing.T) {
	r := newRig(t, false)
	r.run()
	r.must(r.exec("e", "exit", "7"))
	began := time.Now()
	_, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "e"})
	r.must(err)
	if got := r.wait("e").ExitStatus; got != 7 {
		t.Errorf("status %d, want 7", got)
	}
	early := func() bool { return len(r.daemon.ids()) != 0 && time.Since(began) < noticeWait }
	if poll.Until(noticeWait/2-time.Since(began), early) {
		t.Fatalf("exit published %v after Start began, nobody has asked for the State", time.Since(began))
	}
	r.state("e")
	r.published(1)
}

// TestExitIsNotHeldForever: a daemon that never asks gets the exit as well.
func TestExitIsNotHeldForever(t *testing.T) {
	r := newRig(t, false)
	r.run()
	r.must(r.exec("e", "exit", "7"))
	_, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "e"})
	r.must(err)
	if got := r.published(1); got[0] != "e" {
		t.Errorf("exit of %s", got[0])
	}
	r.sup.mu.Lock()
	defer r.sup.mu.Unlock()
	if _, kept := r.sup.replies["e"]; kept {
		t.Error("the reply is remembered after the exit")
	}
}

// TestEarlierExitIsPlacedFirst is B02: the scheduler runs the watchers in any
// order, and the one of a later death waits for that of an earlier one.
func TestEarlierExitIsPlacedFirst(t *testing.T) {
	s := NewSupervisor(&proc.Env{}, NewOutbox(&daemon{}))
	first, second := exited(t), exited(t)
	s.watch(second)
	s.watch(first)
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		s.awaitEarlier(second, second.Exit())
	}()
	if !never(passed, 50*time.Millisecond) {
		t.Error("the later exit did not wait for the earlier one")
	}
	s.awaitEarlier(first, first.Exit()) // waits for nobody
	s.placed(first)
	receive(t, "the later exit", passed)
	s.placed(second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unplaced) != 0 {
		t.Errorf("%d exits are remembered", len(s.unplaced))
	}
}

// TestStateAnswersWhileTheRestIsKilled is B03: a "runc kill" that hangs when
// init has died holds up nothing but the exit's event.
func TestStateAnswersWhileTheRestIsKilled(t *testing.T) {
	r := newRig(t, true)
	r.run()
	r.execRun("e", "wait", "0")
	at, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.runtime.on("kill", func(string) error { once.Do(func() { close(at) }); <-release; return nil })
	r.runtime.endInit(t)
	receive(t, "kill of the rest", at)
	began := time.Now()
	r.state(containerID)
	r.state("e")
	r.wait(containerID)
	if d := time.Since(began); d > soon/2 {
		t.Errorf("answers took %v", d)
	}
	close(release)
	r.published(2)
}

// TestPausedContainerIsThawedAfterItsDeath is B51: what is left in it could not
// die frozen, and runc would not delete it.
func TestPausedContainerIsThawedAfterItsDeath(t *testing.T) {
	r := newRig(t, false)
	r.run()
	_, err := r.client.Pause(r.ctx(), empty)
	r.must(err)
	r.runtime.endInit(t)
	r.published(1)
	if n := r.runtime.called("resume"); n != 1 {
		t.Errorf("the runtime was told %d times to resume", n)
	}
	if _, err := r.delete(); err != nil {
		t.Error(err)
	}
}
