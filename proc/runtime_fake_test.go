// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/proc/internal/proctest"
	"containerd-shim.v1/proc/stdio"

	runc "github.com/containerd/go-runc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fakeRuntime starts internal/child for each process and keeps no state but
// what a test sets.
type fakeRuntime struct {
	t *testing.T
	// process is what Create, Exec and Restore start; nil starts nothing.
	process []string
	// after is called by each verb, by its name, after what it does; its
	// error is the verb's.
	after map[string]func(ctx context.Context) error
	// pidFile writes the pid file; nil writes it as runc does.
	pidFile        func(path string, pid int)
	ignoresKillAll bool
	noConsole      bool // a terminal's process gets none

	mu     sync.Mutex
	exists bool          // guarded by mu
	calls  []string      // guarded by mu
	last   int           // guarded by mu; the pid of the process started last
	init   int           // guarded by mu; the pid of the container's first process
	spec   specs.Process // guarded by mu; of the last Exec
	pids   []int         // guarded by mu; what Ps tells
	status string        // guarded by mu; what Status tells
}

var _ Runtime = (*fakeRuntime)(nil)

func (f *fakeRuntime) verb(ctx context.Context, name, call string) error {
	f.mu.Lock()
	f.calls = append(f.calls, call)
	after := f.after[name]
	f.mu.Unlock()
	if after == nil {
		return nil
	}
	return after(ctx)
}

func (f *fakeRuntime) called(call string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.calls, call)
}

func (f *fakeRuntime) lastPid() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *fakeRuntime) spawn(io *stdio.Streams, console runc.ConsoleSocket, pidFile string) error {
	if f.process == nil {
		return nil
	}
	args := f.process
	if console != nil && !f.noConsole {
		args = append([]string{"tty", console.Path()}, args...)
	}
	cmd := exec.Command(proctest.Child, args...)
	proctest.Stdio(cmd, io.ChildFiles())
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	if err := cmd.Process.Release(); err != nil {
		return err
	}
	io.CloseChildFiles()
	if f.pidFile != nil {
		f.pidFile(pidFile, pid)
	} else if err := os.WriteFile(pidFile, []byte(strconv.Itoa(pid)), 0o600); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = pid
	return nil
}

func (f *fakeRuntime) Create(ctx context.Context, id, bundle string, o CreateCall) error {
	if err := f.spawn(o.IO, o.Console, o.PidFile); err != nil {
		return err
	}
	f.mu.Lock()
	f.init = f.last
	f.mu.Unlock()
	return f.verb(ctx, "create", "create")
}

func (f *fakeRuntime) Restore(ctx context.Context, id, bundle string, o RestoreCall) error {
	if err := f.spawn(o.IO, o.Console, o.PidFile); err != nil {
		return err
	}
	f.mu.Lock()
	f.init = f.last
	f.mu.Unlock()
	return f.verb(ctx, "restore", "restore "+o.ImagePath+" "+o.WorkPath)
}

func (f *fakeRuntime) Exec(ctx context.Context, id string, spec specs.Process, o ExecCall) error {
	f.mu.Lock()
	f.spec = spec
	f.mu.Unlock()
	if err := f.spawn(o.IO, o.Console, o.PidFile); err != nil {
		return err
	}
	return f.verb(ctx, "exec", "exec")
}

func (f *fakeRuntime) Start(ctx context.Context, id string) error {
	return f.verb(ctx, "start", "start")
}

func (f *fakeRuntime) Kill(ctx context.Context, id string, sig int, all bool) error {
	if err := f.verb(ctx, "kill", fmt.Sprintf("kill %d %v", sig, all)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.init > 1 {
		_ = unix.Kill(f.init, unix.Signal(sig)) // it may be dead
	}
	return nil
}

func (f *fakeRuntime) Pause(ctx context.Context, id string) error {
	return f.verb(ctx, "pause", "pause")
}

func (f *fakeRuntime) Resume(ctx context.Context, id string) error {
	return f.verb(ctx, "resume", "resume")
}

func (f *fakeRuntime) Delete(ctx context.Context, id string, force bool) error {
	return f.verb(ctx, "delete", fmt.Sprintf("delete %v", force))
}

func (f *fakeRuntime) Ps(ctx context.Context, id string) ([]int, error) {
	f.mu.Lock()
	pids := f.pids
	f.mu.Unlock()
	return pids, f.verb(ctx, "ps", "ps")
}

func (f *fakeRuntime) Status(ctx context.Context, id string) (string, error) {
	f.mu.Lock()
	status := f.status
	f.mu.Unlock()
	return status, f.verb(ctx, "state", "state")
}

func (f *fakeRuntime) Update(ctx context.Context, id string, r *specs.LinuxResources) error {
	return f.verb(ctx, "update", "update")
}

func (f *fakeRuntime) Checkpoint(ctx context.Context, id string, o CheckpointOptions) error {
	return f.verb(ctx, "checkpoint", "checkpoint "+o.WorkPath)
}

func (f *fakeRuntime) Exists(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.exists
}

func (f *fakeRuntime) IgnoresKillAll(context.Context) bool { return f.ignoresKillAll }

// failing returns a verb's end that fails.
func failing(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

// held returns a verb's end that waits until release is called, or for ctx.
func held(t *testing.T) (verb func(context.Context) error, entered <-chan struct{}, release func()) {
	in, out := make(chan struct{}), make(chan struct{})
	var once, first sync.Once
	release = func() { once.Do(func() { close(out) }) }
	t.Cleanup(release)
	return func(ctx context.Context) error {
		first.Do(func() { close(in) })
		select {
		case <-out:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, in, release
}

// newTestInit returns a container on f whose bundle is empty.
func newTestInit(t *testing.T, f *fakeRuntime, c InitConfig) *Init {
	t.Helper()
	f.t = t
	c.ID, c.Bundle = "c1", t.TempDir()
	p := NewInit(&Env{
		Namespace: "ns", Bundle: c.Bundle, WorkDir: t.TempDir(),
		Reaper: proctest.Reaper, Monitor: proctest.Monitor, Limits: DefaultLimits(), Streams: shortLimits(),
		NewRuntime: func(string) Runtime { return f },
	}, c)
	endAtLast(t, &p.process)
	return p
}

// created creates the container.
func created(t *testing.T, f *fakeRuntime, c InitConfig) *Init {
	t.Helper()
	p := newTestInit(t, f, c)
	if err := p.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// endAtLast ends the process and its streams at the end of the test.
func endAtLast(t *testing.T, p *process) {
	t.Cleanup(func() {
		child := p.Child()
		if child == nil {
			return
		}
		p.env.killAndWait(child)
		if p.Snapshot().Phase != Deleted {
			p.awaitStopped(t)
		}
		p.mu.Lock()
		io := p.io
		p.mu.Unlock()
		if io != nil {
			io.ProcessDeleted()
		}
	})
}

func (p *process) awaitStopped(t *testing.T) Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := p.Wait(ctx); err != nil {
		t.Errorf("wait for the exit: %v", err)
	}
	return p.Snapshot()
}

// running is created and Start.
func running(t *testing.T, f *fakeRuntime, c InitConfig) *Init {
	t.Helper()
	p := created(t, f, c)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func newTestExec(t *testing.T, init *Init, id string, s Stdio) *Exec {
	t.Helper()
	p, err := NewExec(init, id, s, []byte(`{"args":["x"],"cwd":"/"}`))
	if err != nil {
		t.Fatal(err)
	}
	endAtLast(t, &p.process)
	return p
}

// dead reports whether no process has this pid.
func dead(pid int) bool {
	return wait.Until(2*time.Second, func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
}
