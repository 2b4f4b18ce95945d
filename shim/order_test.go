// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// slowLimits are for tests of what comes between two limits, on a busy machine, too.
var slowLimits = Limits{Reply: 3 * time.Second, Asked: 9 * time.Second}

// TestInitExitComesLast is B20: in a container without a pid namespace, the exits
// of the execs that are killed with it come before its own.
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

// TestInitExitComesLastWhileTheDaemonIsAway is B20 with a daemon that takes no
// events meanwhile: init dies first, but its exit must not overtake the others in
// the queue.
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
	receive(t, "the container's exit", r.sup.exits.over)
	r.daemon.refuseBy(nil)
	got := r.published(5)
	if got[0] != "first" || got[4] != containerID {
		t.Errorf("exits %q, want first ... %s", got, containerID)
	}
}

// TestExecLandsWhileInitDies is B21: an exec whose runtime returns after the
// container's death is killed, its Start fails, and it does not hold up the
// container's exit.
func TestExecLandsWhileInitDies(t *testing.T) {
	r := newRig(t, true)
	r.run()
	atRuntime, release, killRest := make(chan struct{}), make(chan struct{}), make(chan struct{})
	r.runtime.on("exec-end", func(string) error {
		close(atRuntime)
		<-release
		return nil
	})
	// The exec is alive when its runtime returns: the kill of the rest is held up.
	letKill := sync.OnceFunc(func() { close(killRest) })
	defer letKill()
	var kills atomic.Int32
	r.runtime.on("kill", func(string) error {
		if kills.Add(1) > 1 {
			<-killRest
		}
		return nil
	})
	r.must(r.exec("late", "wait", "0"))
	started := calling(func() error { _, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "late"}); return err })
	receive(t, "the exec's runtime", atRuntime)
	r.must(r.kill(containerID, 9))
	eventually(t, "no more execs", func() bool {
		return r.sup.exits.isClosing()
	})
	close(release)
	err := receive(t, "answer to Start", started)
	letKill()
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

// TestManyExecsWhileInitIsKilled is B20's second generation: the container's exit
// comes, and comes last, and each exec that was started has one exit.
func TestManyExecsWhileInitIsKilled(t *testing.T) {
	r := newLimitedRig(t, true, Limits{Reply: soon, Asked: soon}) // nothing is sent because of a time-out
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
	receive(t, "the container's exit", r.sup.exits.over)
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

// TestExitIsHeldForTheStart is F20: containerd publishes the start after our
// reply, and then asks for the State on the same connection; the exit must not
// overtake the start. State and Wait report the exit at once. A State that another
// client asks for, or that of another process, proves nothing.
func TestExitIsHeldForTheStart(t *testing.T) {
	r := newLimitedRig(t, false, slowLimits)
	r.run()
	r.must(r.exec("e", "exit", "7"))
	_, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "e"})
	r.must(err)
	began := time.Now()
	if got := r.wait("e").ExitStatus; got != 7 {
		t.Errorf("status %d, want 7", got)
	}
	other := r.connect()
	if _, err := other.State(r.ctx(), &api.StateRequest{ID: "e"}); err != nil {
		t.Error(err)
	}
	_, _ = r.client.ResizePty(r.ctx(), &api.ResizePtyRequest{ID: "e"}) // refused: it has stopped
	r.state(containerID)
	// The exits of others pass meanwhile.
	r.execRun("f", "exit", "0")
	if got := r.published(1); got[0] != "f" {
		t.Fatalf("exit of %s published %v after the reply, although nobody has asked for its State", got[0], time.Since(began))
	}
	r.state("e")
	if got := r.published(2); got[1] != "e" || time.Since(began) > r.limits.Asked {
		t.Errorf("exits of %q after %v", got, time.Since(began))
	}
}

// TestExitIsNotHeldForever: a daemon that never asks, or that is gone, gets the
// exit as well.
func TestExitIsNotHeldForever(t *testing.T) {
	for name, gone := range map[string]bool{"never asked": false, "gone": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			r.run()
			conn, err := net.Dial("unix", r.socket)
			r.must(err)
			client := ttrpc.NewClient(conn)
			defer client.Close()
			r.must(r.exec("e", "exit", "7"))
			_, err = api.NewShimClient(client).Start(r.ctx(), &api.StartRequest{ID: "e"})
			r.must(err)
			began := time.Now()
			if gone {
				_ = client.Close() // its own error does not matter
			}
			if got := r.published(1); got[0] != "e" {
				t.Errorf("exit of %s", got[0])
			}
			if d := time.Since(began); gone == (d > r.limits.Asked/2) {
				t.Errorf("published after %v", d)
			}
		})
	}
}

// TestExitOfAStartThatHangs is F9: init dies while "runc start" hangs in a hook.
// After Limits.Reply its exit comes and the runtime is ended, and Delete works.
func TestExitOfAStartThatHangs(t *testing.T) {
	r := newLimitedRig(t, false, slowLimits)
	r.create()
	at := make(chan struct{})
	r.runtime.hang("start", at)
	started := calling(func() error { _, err := r.client.Start(r.ctx(), &api.StartRequest{ID: containerID}); return err })
	receive(t, "start", at)
	began := time.Now()
	r.runtime.endInit(t)
	r.wait(containerID)
	r.published(1)
	if d := time.Since(began); d > 2*r.limits.Reply {
		t.Errorf("published after %v", d)
	}
	if _, err := r.delete(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 3*r.limits.Reply {
		t.Errorf("deleted after %v", d)
	}
	if err := receive(t, "answer to Start", started); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Start: %v", err)
	}
}

// TestDeleteEndsAHungVerb is F10: an update that hangs does not keep a dead
// container from being deleted.
func TestDeleteEndsAHungVerb(t *testing.T) {
	r := newLimitedRig(t, false, slowLimits)
	r.run()
	at := make(chan struct{})
	r.runtime.hang("update", at)
	updated := calling(func() error {
		_, err := r.client.Update(r.ctx(), &api.UpdateTaskRequest{Resources: resources})
		return err
	})
	receive(t, "update", at)
	r.runtime.endInit(t)
	r.wait(containerID)
	began := time.Now()
	if _, err := r.delete(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 2*r.limits.Reply {
		t.Errorf("deleted after %v", d)
	}
	if err := receive(t, "answer to Update", updated); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Update: %v", err)
	}
}

// TestKillDuringTheStart is F2: a signal is not lost because its process does not
// exist yet.
func TestKillDuringTheStart(t *testing.T) {
	r := newRig(t, false)
	r.run()
	at, release := make(chan struct{}), make(chan struct{})
	r.runtime.on("exec", func(string) error { close(at); <-release; return nil })
	r.must(r.exec("e", "wait", "0"))
	started := calling(func() error { _, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "e"}); return err })
	receive(t, "the exec's runtime", at)
	short, cancel := context.WithTimeout(r.ctx(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.client.Kill(short, &api.KillRequest{ID: "e", Signal: 9}); !gaveUp(err) {
		t.Errorf("Kill with a short deadline: %v", err)
	}
	killed := calling(func() error { return r.kill("e", 9) })
	select {
	case err := <-killed:
		t.Errorf("Kill before there is a process: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	r.must(receive(t, "answer to Start", started))
	r.must(receive(t, "answer to Kill", killed))
	if got := r.wait("e").ExitStatus; got != 137 {
		t.Errorf("status %d, want 137", got)
	}
	if _, err := r.client.DeleteProcess(r.ctx(), &api.DeleteProcessRequest{ID: "e"}); err != nil {
		t.Error(err)
	}
}

// TestKillWhileTheStartIsAdmitted is F2 for an exec whose runtime has not been
// run yet, because others come first. A start that is refused takes no place.
func TestKillWhileTheStartIsAdmitted(t *testing.T) {
	r := newRig(t, false)
	r.run()
	r.execRun("runs", "wait", "0")
	release := make(chan struct{})
	for range 100 {
		if _, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "runs"}); status.Code(err) != codes.FailedPrecondition {
			t.Fatalf("second Start: %v", err)
		}
	}
	began := time.Now()
	r.execRun("prompt", "exit", "0")
	if d := time.Since(began); d > 2*time.Second { // the time for which a place is kept
		t.Errorf("a start after 100 refused ones took %v", d)
	}
	r.runtime.on("exec", func(string) error { <-release; return nil })
	n := 12 * runtime.NumCPU() // more than may run at once
	var all sync.WaitGroup
	for i := range n {
		id := fmt.Sprintf("e%d", i)
		r.must(r.exec(id, "wait", "0"))
		all.Go(func() {
			if _, err := r.client.Start(r.ctx(), &api.StartRequest{ID: id}); err != nil {
				t.Errorf("Start: %v", err)
			}
		})
		eventually(t, "the start of "+id, func() bool {
			p, err := r.sup.exec(id)
			return err == nil && r.sup.exits.starting(p) != nil
		})
		all.Go(func() {
			if err := r.kill(id, 9); err != nil {
				t.Errorf("Kill: %v", err)
			}
		})
	}
	close(release)
	all.Wait()
	for i := range n {
		if got := r.wait(fmt.Sprintf("e%d", i)).ExitStatus; got != 137 {
			t.Errorf("status %d, want 137", got)
		}
	}
}

// TestKillEndsARestore: a restore that hangs before there is a process can be
// killed.
func TestKillEndsARestore(t *testing.T) {
	r := newRig(t, false)
	at := make(chan struct{})
	r.runtime.hang("restore", at)
	request := r.createRequest()
	request.Checkpoint = "/image"
	_, err := r.client.Create(r.ctx(), request)
	r.must(err)
	started := calling(func() error { _, err := r.client.Start(r.ctx(), &api.StartRequest{ID: containerID}); return err })
	receive(t, "restore", at)
	if err := r.kill(containerID, 9); status.Code(err) != codes.NotFound {
		t.Errorf("Kill: %v", err)
	}
	if err := receive(t, "answer to Start", started); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Start: %v", err)
	}
	if _, err := r.delete(); err != nil {
		t.Error(err)
	}
}

// TestShutdownTellsTheExit: Shutdown does not wait for the daemon's State.
func TestShutdownTellsTheExit(t *testing.T) {
	r := newRig(t, false)
	r.create()
	_, err := r.client.Start(r.ctx(), &api.StartRequest{ID: containerID})
	r.must(err)
	r.must(r.sup.Shutdown(r.ctx()))
	if got := r.daemon.ids(); !slices.Equal(got, []string{containerID}) {
		t.Errorf("exits %q after Shutdown", got)
	}
}

// TestRestoreThatFails is F19: there is no process, and Delete cleans up, for which the
// client wants to find the container first.
func TestRestoreThatFails(t *testing.T) {
	r := newRig(t, false)
	r.runtime.on("create", func(string) error { return errors.New("no image") }) // restore, too
	request := r.createRequest()
	request.Checkpoint = "/image"
	_, err := r.client.Create(r.ctx(), request)
	r.must(err)
	if _, err := r.client.Start(r.ctx(), &api.StartRequest{ID: containerID}); status.Code(err) != codes.Internal {
		t.Errorf("Start: %v", err)
	}
	if s := r.state(containerID); s.Status.String() != "STOPPED" || s.Pid != 0 || s.ExitStatus != 255 {
		t.Errorf("State: %v", s)
	}
	if s := r.wait(containerID).ExitStatus; s != 255 { // unknown
		t.Errorf("Wait: status %d", s)
	}
	r.expect("after a failed restore", []wantCode{
		{"Start again", doStart(containerID), codes.FailedPrecondition, "cannot start a stopped"},
		{"Kill", doKill(containerID, 9), codes.NotFound, "does not exist"},
		{"Exec", doExec("e"), codes.FailedPrecondition, ""},
		{"Delete", doDelete, codes.OK, ""},
		{"Delete again", doDelete, codes.OK, ""},
	})
}

// TestIdIsUsedAgainWhileItsExitWaits: the exit of a deleted exec is not taken for
// that of the next exec with the same id.
func TestIdIsUsedAgainWhileItsExitWaits(t *testing.T) {
	r := newRig(t, false)
	r.run()
	pids := make(map[uint32]bool)
	for range 3 {
		r.must(r.exec("e", "exit", "3"))
		resp, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "e"})
		r.must(err)
		pids[resp.Pid] = true
		r.wait("e")
		if _, err := r.client.DeleteProcess(r.ctx(), &api.DeleteProcessRequest{ID: "e"}); err != nil {
			t.Error(err)
		}
	}
	r.published(3)
	for _, e := range r.daemon.taken() {
		if !pids[e.Pid] {
			t.Errorf("a second exit of pid %d, or one of a process that was not started", e.Pid)
		}
		delete(pids, e.Pid)
	}
}

// TestStateAnswersWhileTheRestIsKilled is B03: a "runc kill" that hangs after
// init's death holds up only the event of its exit.
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

// TestPausedContainerIsThawedAfterItsDeath is B51: what is left in it cannot die
// while it is frozen, and runc would not delete the container.
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
