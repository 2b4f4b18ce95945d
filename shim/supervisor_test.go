// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/runtime/linux/runctypes"
	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// gaveUp reports whether err says that a deadline has passed, at the server or at
// the client.
func gaveUp(err error) bool {
	return status.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded)
}

// TestDeleteIsRepeatable is B15: the first caller gives up, others call at the
// same time and later, and all of them learn the exit.
func TestDeleteIsRepeatable(t *testing.T) {
	r := newRig(t, false)
	r.runtime.initArgs = []string{"wait", "42"}
	pid := r.run()
	r.runtime.endInit(t)
	r.wait(containerID)
	release := make(chan struct{})
	r.runtime.on("delete", func(string) error { <-release; return nil })
	short, cancel := context.WithTimeout(r.ctx(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.client.Delete(short, empty); !gaveUp(err) {
		t.Errorf("Delete with a short deadline: %v", err)
	}
	var wg sync.WaitGroup
	answer := func() {
		defer wg.Done()
		resp, err := r.client.Delete(r.ctx(), empty)
		if err != nil || resp.ExitStatus != 42 || int(resp.Pid) != pid || !resp.ExitedAt.IsValid() {
			t.Errorf("Delete: %v, %v; want pid %d, status 42", resp, err, pid)
		}
	}
	wg.Add(20)
	for range 20 {
		go answer()
	}
	close(release)
	wg.Wait()
	wg.Add(1)
	answer()
	if n := r.runtime.called("delete"); n != 1 {
		t.Errorf("the runtime was told to delete %d times", n)
	}
}

// TestDuplicateExec is B45: one of two with the same id is refused, and the id
// is free again after DeleteProcess.
func TestDuplicateExec(t *testing.T) {
	r := newRig(t, false)
	r.run()
	var wg sync.WaitGroup
	results := make(chan error, 20)
	for range cap(results) {
		wg.Add(1)
		go func() { defer wg.Done(); results <- r.exec("e", "exit", "3") }()
	}
	wg.Wait()
	close(results)
	added := 0
	for err := range results {
		if err == nil {
			added++
		} else if status.Code(err) != codes.AlreadyExists {
			t.Error(err)
		}
	}
	if added != 1 {
		t.Errorf("%d execs with one id", added)
	}
	for round := range 3 {
		if round > 0 {
			r.must(r.exec("e", "exit", "3"))
		}
		pid := r.start("e")
		if got := r.wait("e").ExitStatus; got != 3 {
			t.Errorf("round %d: status %d", round, got)
		}
		r.published(round + 1)
		resp, err := r.client.DeleteProcess(r.ctx(), &api.DeleteProcessRequest{ID: "e"})
		if err != nil || int(resp.Pid) != pid || resp.ExitStatus != 3 {
			t.Errorf("round %d: %v, %v", round, resp, err)
		}
	}
}

// TestWaitOfMany is B39: waiters that go away leave nothing behind; the others
// all get the exit, even those who ask after it.
func TestWaitOfMany(t *testing.T) {
	r := newRig(t, false)
	r.run()
	r.execRun("e", "wait", "5")
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			ctx, cancel := context.WithTimeout(r.ctx(), 50*time.Millisecond)
			defer cancel()
			_, err := r.client.Wait(ctx, &api.WaitRequest{ID: "e"})
			if !gaveUp(err) {
				t.Errorf("Wait with a deadline: %v", err)
			}
		}()
	}
	wg.Wait()
	eventually(t, "the end of 100 waits that were given up", func() bool { return runtime.NumGoroutine() <= before+10 })
	for range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if got := r.wait("e").ExitStatus; got != 5 {
				t.Errorf("status %d, want 5", got)
			}
		}()
	}
	r.runtime.endExec(t)
	wg.Wait()
	if got := r.wait("e").ExitStatus; got != 5 {
		t.Errorf("status %d after the exit, want 5", got)
	}
}

// TestCreateFailsAndIsRepeated: after a failed Create there may be another.
func TestCreateFailsAndIsRepeated(t *testing.T) {
	r := newRig(t, false)
	r.runtime.on("create", func(string) error { return errors.New("no") })
	if _, err := r.client.Create(r.ctx(), r.createRequest()); status.Code(err) != codes.Internal {
		t.Errorf("Create: %v", err)
	}
	r.expect("after a failed Create", noContainer())
	r.runtime.on("create", nil)
	r.run()
	if got := r.state(containerID).Status; got != task.Status_RUNNING {
		t.Errorf("status %v", got)
	}
}

// TestOptions is B10: absent and empty options mean the defaults, foreign and
// broken ones are an error. Upstream's shim died of each.
func TestOptions(t *testing.T) {
	r := newRig(t, false)
	create := r.createRequest()
	for _, a := range []*anypb.Any{
		{TypeUrl: "containerd.linux.runc.CheckpointOptions"},
		{TypeUrl: "no.such.Type", Value: []byte{1}},
		{Value: []byte{1}},
		{TypeUrl: "containerd.linux.runc.CreateOptions", Value: []byte{0xff}},
	} {
		create.Options = a
		if _, err := r.client.Create(r.ctx(), create); status.Code(err) != codes.InvalidArgument {
			t.Errorf("Create with options %v: %v", a, err)
		}
	}
	create.Options = &anypb.Any{TypeUrl: "type.googleapis.com/containerd.linux.runc.CreateOptions"}
	_, err := r.client.Create(r.ctx(), create)
	r.must(err)
	r.start(containerID)
	for _, c := range []struct {
		options *anypb.Any
		want    codes.Code
	}{
		{nil, codes.OK},
		{&anypb.Any{}, codes.OK},
		{&anypb.Any{TypeUrl: "containerd.linux.runc.CheckpointOptions"}, codes.OK},
		{&anypb.Any{TypeUrl: "containerd.linux.runc.CreateOptions"}, codes.InvalidArgument},
	} {
		_, err := r.client.Checkpoint(r.ctx(), &api.CheckpointTaskRequest{Options: c.options})
		if status.Code(err) != c.want {
			t.Errorf("Checkpoint with options %v: %v, want %v", c.options, err, c.want)
		}
	}
}

// TestBrokenPayload: a request that cannot be decoded is the client's fault.
func TestBrokenPayload(t *testing.T) {
	r := newRig(t, false)
	_, err := Interceptor(t.Context(), func(any) error {
		return status.Error(codes.Internal, "cannot parse")
	}, &ttrpc.UnaryServerInfo{FullMethod: "/s/State"}, func(_ context.Context, u func(any) error) (any, error) {
		return nil, u(&api.StateRequest{})
	})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("code %v", status.Code(err))
	}
	r.create()
}

// TestPanicBecomesAnError: one bad request does not cost the container its shim.
func TestPanicBecomesAnError(t *testing.T) {
	_, err := Interceptor(t.Context(), func(any) error { return nil },
		&ttrpc.UnaryServerInfo{FullMethod: "/s/State"},
		func(context.Context, func(any) error) (any, error) { panic("boom") })
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
}

// TestListPids names the processes that the shim started.
func TestListPids(t *testing.T) {
	r := newRig(t, true)
	want := map[uint32]string{uint32(r.run()): containerID}
	for i := range 3 {
		id := fmt.Sprintf("e%d", i)
		want[uint32(r.execRun(id, "wait", "0"))] = id
	}
	dead := uint32(r.execRun("dead", "exit", "0"))
	r.wait("dead")
	resp, err := r.client.ListPids(r.ctx(), &api.ListPidsRequest{ID: containerID})
	r.must(err)
	if len(resp.Processes) != 5 {
		t.Fatalf("%d processes", len(resp.Processes))
	}
	for _, p := range resp.Processes {
		var d runctypes.ProcessDetails
		if p.Pid == dead {
			if p.Info != nil {
				t.Errorf("the dead exec's pid is named: %v", p.Info)
			}
			continue
		}
		r.must(decodeOptions(p.Info, &d))
		if d.ExecID != want[p.Pid] || p.Info.TypeUrl != "containerd.linux.runc.ProcessDetails" {
			t.Errorf("pid %d: %v, want %q", p.Pid, p.Info, want[p.Pid])
		}
	}
}

// TestStateOfAnExec: an exec is paused with its container; a process that has not
// exited has the zero time, sent explicitly (contract §2.4); the pid stays the
// same after the exit.
func TestStateOfAnExec(t *testing.T) {
	r := newRig(t, false)
	r.run()
	pid := r.execRun("e", "wait", "9")
	_, err := r.client.Pause(r.ctx(), empty)
	r.must(err)
	for _, id := range []string{containerID, "e"} {
		s := r.state(id)
		if s.Status != task.Status_PAUSED || s.ExitedAt == nil || s.ExitedAt.Seconds != -62135596800 {
			t.Errorf("%s: %v, exited at %v", id, s.Status, s.ExitedAt)
		}
	}
	_, err = r.client.Resume(r.ctx(), empty)
	r.must(err)
	r.runtime.endExec(t)
	r.wait("e")
	s := r.state("e")
	if s.Status != task.Status_STOPPED || int(s.Pid) != pid || s.ExitStatus != 9 || s.Bundle != r.bundle {
		t.Errorf("after its exit: %v", s)
	}
	r.must(r.kill("", 15)) // no id means init
	if got := r.wait(containerID).ExitStatus; got != 128+15 {
		t.Errorf("status %d", got)
	}
}

// TestStateAnswersWhileTheRuntimeHangs is B06, B07 and B08.
func TestStateAnswersWhileTheRuntimeHangs(t *testing.T) {
	r := newRig(t, false)
	r.run()
	hangs, release := make(chan struct{}), make(chan struct{})
	r.runtime.on("pause", func(string) error { close(hangs); <-release; return nil })
	paused := calling(func() error { _, err := r.client.Pause(r.ctx(), empty); return err })
	receive(t, "pause", hangs)
	start := time.Now()
	if got := r.state(containerID).Status; got != task.Status_PAUSING {
		t.Errorf("status %v", got)
	}
	_, err := r.client.ListPids(r.ctx(), &api.ListPidsRequest{ID: containerID})
	r.must(err)
	r.must(r.kill(containerID, 9))
	if got := r.wait(containerID).ExitStatus; got != 137 {
		t.Errorf("status %d", got)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("answers took %v", d)
	}
	close(release)
	<-paused
}

// TestShutdownDuringCreate is B30: a container that is being made when the shim
// is told to end is not left behind.
func TestShutdownDuringCreate(t *testing.T) {
	r := newRig(t, false)
	at, release := make(chan struct{}), make(chan struct{})
	r.runtime.on("create", func(string) error { close(at); <-release; return nil })
	created := calling(func() error { _, err := r.client.Create(r.ctx(), r.createRequest()); return err })
	receive(t, "create", at)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.sup.Shutdown(r.ctx()); err != nil {
			t.Error(err)
		}
	}()
	if !never(ended, 50*time.Millisecond) {
		t.Error("Shutdown did not wait for the container that is being made")
	}
	close(release)
	<-created
	receive(t, "end of Shutdown", ended)
	if r.runtime.called("delete") != 1 {
		t.Error("the container is left")
	}
	if _, err := os.Stat(filepath.Join(r.bundle, "init.pid")); err != nil {
		t.Errorf("init.pid is the daemon's to remove: %v", err)
	}
}

// TestShutdownIsBounded: a runtime that hangs in create does not keep the shim
// from ending.
func TestShutdownIsBounded(t *testing.T) {
	r := newRig(t, false)
	release := make(chan struct{})
	at := make(chan struct{})
	r.runtime.on("create", func(string) error { close(at); <-release; return errors.New("late") })
	created := calling(func() error { _, err := r.client.Create(r.ctx(), r.createRequest()); return err })
	receive(t, "create", at)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.sup.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	close(release)
	<-created
}
