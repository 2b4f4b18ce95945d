// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"encoding/json"
	"fmt"
	"time"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/procfs"
)

// CreateRequest is a request for the fixture's container.
func (b *Fixture) CreateRequest(io IO) *task.CreateTaskRequest {
	return &task.CreateTaskRequest{
		ID: b.ID, Bundle: b.Bundle, Runtime: b.Runtime(), Terminal: io.Terminal,
		Stdin: io.Stdin, Stdout: io.Stdout, Stderr: io.Stderr,
	}
}

// Create creates the container without any streams.
func (b *Fixture) Create() error { return b.CreateWith(b.CreateRequest(IO{})) }

// CreateWith creates the container as the request says.
func (b *Fixture) CreateWith(r *task.CreateTaskRequest) error {
	resp, err := b.CreateTask(r)
	if err == nil {
		b.InitPid = int(resp.GetPid())
	}
	return err
}

// Up creates and starts the container.
func (b *Fixture) Up() { b.UpWith(IO{}) }

// UpWith is Up with streams.
func (b *Fixture) UpWith(io IO) {
	b.c.Must(b.CreateWith(b.CreateRequest(io)), "Create")
	b.MustStart(b.ID)
}

// MustStart starts a process, and returns its pid.
func (b *Fixture) MustStart(id string) int {
	resp, err := b.Client.Start(id)
	b.c.Must(err, "Start of "+id)
	return int(resp.GetPid())
}

// Die kills init, and waits until its exit has reached the daemon.
func (b *Fixture) Die() {
	b.c.Must(b.Kill(b.ID, uint32(unix.SIGKILL), false), "Kill")
	b.AwaitExit(5*time.Second, b.ID)
}

// Exec adds a process that does steps; it is not started yet.
func (b *Fixture) Exec(id string, io IO, steps ...string) error {
	return b.execAs(b.Client, id, io, steps)
}

// ExecWith is Exec by another client.
func (b *Fixture) ExecWith(c client.Client, id string, steps ...string) error {
	return b.execAs(c, id, IO{}, steps)
}

func (b *Fixture) execAs(by client.Client, id string, io IO, steps []string) error {
	spec, err := json.Marshal(process(steps, io.Terminal, b.c.Dir))
	if err != nil {
		return err
	}
	return by.ExecProcess(&task.ExecProcessRequest{
		ID: id, Terminal: io.Terminal, Stdin: io.Stdin, Stdout: io.Stdout, Stderr: io.Stderr,
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: spec},
	})
}

// MustExec adds and starts a process, and returns its pid.
func (b *Fixture) MustExec(id string, io IO, steps ...string) int {
	b.c.Must(b.Exec(id, io, steps...), "Exec "+id)
	return b.MustStart(id)
}

// RunExec adds and starts a process by another client, waits for it, and returns
// its exit status.
func (b *Fixture) RunExec(by client.Client, id string, steps ...string) (uint32, error) {
	if err := b.ExecWith(by, id, steps...); err != nil {
		return 0, fmt.Errorf("Exec %s: %w", id, err)
	}
	if _, err := by.Start(id); err != nil {
		return 0, fmt.Errorf("Start of %s: %w", id, err)
	}
	w, err := by.Wait(id)
	if err != nil {
		return 0, fmt.Errorf("Wait of %s: %w", id, err)
	}
	return w.GetExitStatus(), nil
}

// AwaitExit waits until the exit of a process has reached the daemon.
func (b *Fixture) AwaitExit(d time.Duration, id string) fakedaemon.Event {
	b.c.Await(d, fmt.Sprintf("the exit event of %s (the daemon has %v)", id, b.Daemon.Events()), func() bool {
		return len(b.Daemon.ExitsOf(id)) > 0
	})
	return b.Daemon.ExitsOf(id)[0]
}

// AwaitStatus is AwaitExit, and wants that exit status.
func (b *Fixture) AwaitStatus(d time.Duration, id string, want uint32) {
	if e := b.AwaitExit(d, id); e.Exit.GetExitStatus() != want {
		b.c.Errorf("exit of %s: status %d, want %d", id, e.Exit.GetExitStatus(), want)
	}
}

// Gone waits until a process has ended, also as a zombie.
func (b *Fixture) Gone(d time.Duration, what string, pid int) {
	b.c.Await(d, fmt.Sprintf("%s (pid %d) is dead", what, pid), func() bool { return !procfs.Alive(pid) })
}
