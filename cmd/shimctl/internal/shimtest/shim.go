// SPDX-License-Identifier: Apache-2.0

package shimtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/launch"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/sweep"
	"containerd-shim.v1/integration/harness/wait"
)

// Shim is a running shim with one container.
type Shim struct {
	PID       int
	Namespace string
	ID        string
	Bundle    string
	Work      string // -workdir
	InitPID   int
	Daemon    string // Underneath's containerd
	API       shimapi.ShimService
	Events    *fakedaemon.Daemon // Start's

	runtime *fakeruntime.Runtime
	holds   int // so far
	orphans []int
	exited  <-chan struct{}
}

// orphans is how many processes create leaves to the shim: twice what a
// subscriber's channel of 32 takes. One more has a first thread that has ended:
// a zombie by its state, under a shim that has nothing to reap.
const orphans = 80

// create is what the fake runtime does at create; all else is its own.
var create = fakeruntime.Rule{Verb: "create", Steps: []fakeruntime.Step{
	{Op: fakeruntime.Spawn, N: orphans}, {Op: fakeruntime.Spawn, N: 1, Text: "leaderless"}, {Op: fakeruntime.Real},
}}

// run is the directory of this test binary; Run removes it.
var run = sync.OnceValues(sweep.Begin)

// world makes a directory in which everything of one shim is; all that was
// started in it ends with the test.
func world(t testing.TB) string {
	t.Helper()
	dir, err := run()
	must(t, err)
	dir, err = os.MkdirTemp(dir, "")
	must(t, err)
	must(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() {
		if err := sweep.Clean(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fakeRuntime makes the runtime of a world, which has no real runc behind it.
func fakeRuntime(t testing.TB, dir string) *fakeruntime.Runtime {
	t.Helper()
	r, err := fakeruntime.New(filepath.Join(dir, "r"), tool(t, helper), "", create)
	must(t, err)
	t.Cleanup(r.Close)
	return r
}

// Start runs the binary as containerd does, with arguments added to the usual
// ones, and creates a container. Everything is gone when the test is over.
func Start(t testing.TB, binary string, args ...string) *Shim {
	t.Helper()
	dir := world(t)
	s := &Shim{Namespace: "shimtest", ID: "c" + filepath.Base(dir), runtime: fakeRuntime(t, dir)}
	s.Work = filepath.Join(dir, "io.containerd.runtime.v1.linux", s.Namespace, s.ID)
	s.Bundle = filepath.Join(dir, "state", s.ID)
	daemon := filepath.Join(dir, "d")
	for _, d := range []string{s.Work, filepath.Join(s.Bundle, "rootfs"), daemon} {
		must(t, os.MkdirAll(d, 0o700))
	}
	spec := `{"ociVersion":"1.0.0","process":{"args":["sleep"]},"linux":{}}`
	must(t, os.WriteFile(filepath.Join(s.Bundle, "config.json"), []byte(spec), 0o600))
	events, err := fakedaemon.Start(daemon, tool(t, helper))
	must(t, err)
	t.Cleanup(events.Crash)
	s.Events = events
	// Nobody is at the daemon's address: what asks it about its tasks sees it down.
	shim, err := launch.Start(binary, launch.Options{
		Generation: launch.Generation{Socket: launch.FilePath, Address: true}, Namespace: s.Namespace, ID: s.ID,
		Bundle: s.Bundle, Workdir: s.Work, RuntimeRoot: filepath.Join(dir, "runc"), GRPC: filepath.Join(dir, "daemon.sock"),
		Publisher: events.Binary, StackDir: filepath.Join(dir, "stacks"), Flags: args, Dir: dir,
	})
	must(t, err)
	t.Cleanup(shim.Kill)
	s.PID, s.exited = shim.Pid, shim.Done
	s.API = s.Dial(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	create := &shimapi.CreateTaskRequest{
		ID: s.ID, Bundle: s.Bundle, Runtime: s.runtime.Path,
		Stdout: filepath.Join(dir, "stdout"), Stderr: filepath.Join(dir, "stderr"),
	}
	for _, fifo := range []string{create.Stdout, create.Stderr} {
		must(t, syscall.Mkfifo(fifo, 0o600))
		client, err := os.OpenFile(fifo, os.O_RDWR, 0) // nothing is ever written to it
		must(t, err)
		t.Cleanup(func() { _ = client.Close() })
	}
	created, err := s.API.Create(ctx, create)
	must(t, err)
	s.created(int(created.Pid))
	_, err = s.API.Start(ctx, &shimapi.StartRequest{ID: s.ID})
	must(t, err)
	return s
}

// created notes the container's init, and the orphans beside it.
func (s *Shim) created(pid int) {
	s.InitPID = pid
	s.orphans = slices.DeleteFunc(s.runtime.Spawned(), func(p int) bool { return p == pid })
}

// Dial makes one more connection to the shim.
func (s *Shim) Dial(t testing.TB) shimapi.ShimService {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Bundle, "address"))
	must(t, err)
	c, err := net.Dial("unix", strings.TrimPrefix(string(b), "unix://"))
	must(t, err)
	client := ttrpc.NewClient(c)
	t.Cleanup(func() { _ = client.Close() })
	return shimapi.NewShimClient(client)
}

// Exec adds and starts an exec that sleeps. It returns when Start has.
func (s *Shim) Exec(ctx context.Context, id string) error {
	return s.ExecSpec(ctx, id, []byte(`{"args":["sleep"],"cwd":"/"}`))
}

// Create adds an exec of a process by its OCI specification, and does not start
// it. Arguments that begin with "testinit" are steps of guest.Init; of others
// nothing is done, the process sleeps.
func (s *Shim) Create(ctx context.Context, id string, process []byte) error {
	_, err := s.API.Exec(ctx, &shimapi.ExecProcessRequest{ID: id, Spec: &anypb.Any{
		TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: process,
	}})
	return err
}

// ExecSpec is Create and Start.
func (s *Shim) ExecSpec(ctx context.Context, id string, process []byte) error {
	if err := s.Create(ctx, id, process); err != nil {
		return err
	}
	_, err := s.API.Start(ctx, &shimapi.StartRequest{ID: id})
	return err
}

// Pause pauses the container.
func (s *Shim) Pause(ctx context.Context) error {
	_, err := s.API.Pause(ctx, &emptypb.Empty{})
	return err
}

// ExecOnce runs an exec from its creation to its deletion.
func (s *Shim) ExecOnce(ctx context.Context, id string) error {
	if err := s.Exec(ctx, id); err != nil {
		return err
	}
	if _, err := s.API.Kill(ctx, &shimapi.KillRequest{ID: id, Signal: uint32(syscall.SIGKILL)}); err != nil {
		return err
	}
	if _, err := s.API.Wait(ctx, &shimapi.WaitRequest{ID: id}); err != nil {
		return err
	}
	_, err := s.API.DeleteProcess(ctx, &shimapi.DeleteProcessRequest{ID: id})
	return err
}

// Hold does a call whose runc verb stays at its gate, and returns when it is
// there. The verb's next call goes through. release lets this one go on.
func (s *Shim) Hold(t testing.TB, verb string, call func(context.Context) error) (release func()) {
	t.Helper()
	s.holds++
	name := fmt.Sprintf("%s-%d", verb, s.holds)
	must(t, s.runtime.Play(create, fakeruntime.Rule{Verb: verb, Times: 1, Steps: []fakeruntime.Step{
		{Op: fakeruntime.Gate, Name: name}, {Op: fakeruntime.Real},
	}}))
	go func() { _ = call(context.Background()) }() // ends with the shim, which ends with the test
	Until(t, 10*time.Second, verb+" at its gate", func() bool { return s.runtime.Arrived(name) > 0 })
	return func() { must(t, s.runtime.Gate(name).Open()) }
}

// HoldExec holds an exec's start.
func (s *Shim) HoldExec(t testing.TB) (release func()) {
	t.Helper()
	return s.Hold(t, "exec", func(ctx context.Context) error { return s.Exec(ctx, "held") })
}

// KillOrphans ends all orphans.
func (s *Shim) KillOrphans(t testing.TB) {
	t.Helper()
	for _, pid := range s.orphans {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
}

// Wedge makes the cycle of B01: the orphans' exits fill the channel while an
// exec's runc is at work, whose own exit then comes last.
func (s *Shim) Wedge(t testing.TB) {
	t.Helper()
	release := s.HoldExec(t)
	s.KillOrphans(t)
	Until(t, 20*time.Second, "State to hang", func() bool { return !s.Answers() })
	release()
	Until(t, 20*time.Second, "unreaped children", func() bool { return s.Zombies() > 0 })
}

// Answers reports whether State answers within three seconds: shims up to v1.2.11
// fork `runc state` for it.
func (s *Shim) Answers() bool {
	return answers(func(ctx context.Context) error {
		_, err := s.API.State(ctx, &shimapi.StateRequest{ID: s.ID})
		return err
	})
}

// Runs reports whether ShimInfo answers, for which no release forks or locks.
func (s *Shim) Runs() bool {
	return answers(func(ctx context.Context) error {
		_, err := s.API.ShimInfo(ctx, &emptypb.Empty{})
		return err
	})
}

func answers(call func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return call(ctx) == nil
}

// Zombies counts the shim's unreaped children: those without a living thread.
func (s *Shim) Zombies() int { return len(procfs.Count(s.PID).Zombies) }

// Exited is closed when the shim is gone.
func (s *Shim) Exited() <-chan struct{} { return s.exited }

// Until waits for a condition, and fails the test when it does not come true in
// time.
func Until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	must(t, wait.For(limit, what, ok))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
