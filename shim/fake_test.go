// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"containerd-shim.v1/proc"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fakeRuntime is a runtime inside the test, whose processes are real children
// of the test. An exec's args are a role of reaper/internal/child.
type fakeRuntime struct {
	// initArgs is init's role.
	initArgs []string

	mu     sync.Mutex
	verbs  map[string]func(id string) error // guarded by mu; run first, without mu
	calls  map[string]int                   // guarded by mu
	hangs  map[string]chan<- struct{}       // guarded by mu
	exists bool                             // guarded by mu
	status string                           // guarded by mu; what Status tells
	init   *fakeProcess                     // guarded by mu
	execs  []*fakeProcess                   // guarded by mu
}

// fakeProcess is one child; closing gate ends one in the role "wait".
type fakeProcess struct {
	pid  int
	gate *os.File
}

func newFakeRuntime(t *testing.T) *fakeRuntime {
	f := &fakeRuntime{
		initArgs: []string{"wait", "0"},
		verbs:    make(map[string]func(string) error), calls: make(map[string]int), hangs: make(map[string]chan<- struct{}),
	}
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, p := range append(f.execs, f.init) {
			if p != nil {
				_ = p.gate.Close() // a test may have closed it
			}
		}
	})
	return f
}

var _ proc.Runtime = (*fakeRuntime)(nil)

// on makes fn run at the beginning of each call of a verb; if it returns an error,
// the call fails with that. A nil fn undoes it.
func (f *fakeRuntime) on(verb string, fn func(id string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verbs[verb] = fn
}

func (f *fakeRuntime) called(verb string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[verb]
}

func (f *fakeRuntime) enter(verb, id string) error {
	f.mu.Lock()
	f.calls[verb]++
	fn := f.verbs[verb]
	f.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(id)
}

func spawn(args []string, pidFile string) (*fakeProcess, error) { return spawnOn(nil, args, pidFile) }

// spawnOn is spawn for a process with this stdout.
func spawnOn(stdout *os.File, args []string, pidFile string) (*fakeProcess, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(childBinary, args...)
	cmd.Stdin = r
	if stdout != nil {
		cmd.Stdout = stdout
	}
	err = cmd.Start()
	_ = r.Close() // the child has it
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	p := &fakeProcess{pid: cmd.Process.Pid, gate: w}
	_ = cmd.Process.Release() // the Reaper waits for it
	return p, os.WriteFile(pidFile, []byte(strconv.Itoa(p.pid)), 0o600)
}

func (f *fakeRuntime) Create(_ context.Context, id, _ string, o proc.CreateCall) error {
	if err := f.enter("create", id); err != nil {
		return err
	}
	p, err := spawn(f.initArgs, o.PidFile)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.init, f.exists = p, true
	return err
}

func (f *fakeRuntime) Exec(_ context.Context, id string, spec specs.Process, o proc.ExecCall) error {
	if err := f.enter("exec", id); err != nil {
		return err
	}
	p, err := spawn(spec.Args, o.PidFile)
	f.mu.Lock()
	f.execs = append(f.execs, p)
	f.mu.Unlock()
	return errors.Join(err, f.enter("exec-end", id))
}

// Kill signals init, or with all everything that was started: like runc, by pid, and like
// runc it takes a zombie, which the reaper may be about to wait for, for dead.
func (f *fakeRuntime) Kill(_ context.Context, id string, sig int, all bool) error {
	if err := f.enter("kill", id); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.init == nil {
		return fmt.Errorf("container does not exist: %w", errdefs.ErrNotFound)
	}
	var err error = unix.ESRCH
	if stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", f.init.pid)); !strings.Contains(string(stat), ") Z ") { // before the kill, which may make it one
		err = unix.Kill(f.init.pid, unix.Signal(sig))
	}
	if all {
		for _, p := range f.execs {
			_ = unix.Kill(p.pid, unix.Signal(sig)) // it may be dead
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("os: process already finished: %w", errdefs.ErrNotFound)
	}
	return nil
}

func (f *fakeRuntime) Delete(_ context.Context, id string, _ bool) error {
	if err := f.enter("delete", id); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exists = false
	return nil
}

func (f *fakeRuntime) Status(_ context.Context, id string) (string, error) {
	if err := f.enter("state", id); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status, nil
}

func (f *fakeRuntime) Ps(_ context.Context, id string) ([]int, error) {
	if err := f.enter("ps", id); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pids := []int{f.init.pid}
	for _, p := range f.execs {
		pids = append(pids, p.pid)
	}
	return pids, nil
}

func (f *fakeRuntime) Exists(string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.exists
}

func (f *fakeRuntime) Start(ctx context.Context, id string) error {
	return errors.Join(f.enter("start", id), f.hung(ctx, "start"))
}
func (f *fakeRuntime) Pause(_ context.Context, id string) error  { return f.enter("pause", id) }
func (f *fakeRuntime) Resume(_ context.Context, id string) error { return f.enter("resume", id) }
func (f *fakeRuntime) Update(ctx context.Context, id string, _ *specs.LinuxResources) error {
	return errors.Join(f.enter("update", id), f.hung(ctx, "update"))
}
func (f *fakeRuntime) Checkpoint(_ context.Context, id string, _ proc.CheckpointOptions) error {
	return f.enter("checkpoint", id)
}
func (f *fakeRuntime) Restore(ctx context.Context, id, _ string, o proc.RestoreCall) error {
	if err := f.hung(ctx, "restore"); err != nil {
		return err
	}
	return f.Create(context.Background(), id, "", o.CreateCall)
}
func (f *fakeRuntime) IgnoresKillAll(context.Context) bool { return false }

// endInit makes init exit by itself.
func (f *fakeRuntime) endInit(t *testing.T) { f.end(t, func() *fakeProcess { return f.init }) }

// endExec makes the latest exec exit by itself.
func (f *fakeRuntime) endExec(t *testing.T) {
	f.end(t, func() *fakeProcess { return f.execs[len(f.execs)-1] })
}

func (f *fakeRuntime) end(t *testing.T, which func() *fakeProcess) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := which().gate.Close(); err != nil {
		t.Fatal(err)
	}
}

// hang makes the next call of a verb wait until the shim ends it; at is closed
// once the call has begun.
func (f *fakeRuntime) hang(verb string, at chan<- struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hangs[verb] = at
}

// hung waits until ctx ends if the verb is to hang.
func (f *fakeRuntime) hung(ctx context.Context, verb string) error {
	f.mu.Lock()
	at := f.hangs[verb]
	delete(f.hangs, verb)
	f.mu.Unlock()
	if at == nil {
		return nil
	}
	close(at)
	<-ctx.Done()
	return fmt.Errorf("killed: %w", context.Cause(ctx)) // as with the real one, see proc.TestKilledForACause
}
