// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/daemons"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", path)
}

func (b *bench) foreground(ctx context.Context) error {
	const id = "foreground"
	b.rig.Note(b.rig.Name, id)
	return gives(b.rig.Ctr(ctx, "run", "--rm", "--runtime", daemons.Runtime, "--fifo-dir", filepath.Join(b.rig.Dir, "fifo"),
		daemons.ImageName, id, "sh", "-c", "echo out; echo err >&2; exit 7"), ended{7, "out\n", "err\n"})
}

func (b *bench) exec(ctx context.Context) (err error) {
	const id = "exec"
	remove, err := b.sleeper(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	cmd := b.ctrExec(ctx, id, "e1", nil, "sh", "-c", "read x; echo got $x; echo err >&2; exit 9")
	cmd.Stdin = strings.NewReader("word\n")
	if err := gives(cmd, ended{9, "got word\n", "err\n"}); err != nil {
		return err
	}
	missing, err := do(b.ctrExec(ctx, id, "e2", nil, "/no/such/binary"))
	if err == nil && missing.code == 0 {
		err = errors.New("exec of a program that is not there succeeded")
	}
	// ctr deletes the failed exec, so the same id must be free again.
	return errors.Join(err, gives(b.ctrExec(ctx, id, "e2", nil, "sh", "-c", "kill -KILL $$"), ended{code: 137}))
}

func (b *bench) terminal(ctx context.Context) (err error) {
	const id = "terminal"
	remove, err := b.sleeper(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	cmd := b.ctrExec(ctx, id, "e1", []string{"--tty"}, "sh", "-c", atSize)
	return onTerminal(cmd)
}

func (b *bench) kill(ctx context.Context) (err error) {
	const polite, rude = "polite", "rude"
	removePolite, err := b.start(ctx, polite, "sh", "-c", "trap 'exit 5' TERM; touch /ready; while :; do sleep 0.1; done")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removePolite()) }()
	removeRude, err := b.sleeper(ctx, rude)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeRude()) }()
	ready := b.rootfs(polite, "ready")
	if err := wait.For(soon, "the container is ready", func() bool { _, err := os.Stat(ready); return err == nil }); err != nil {
		return err
	}
	events, err := b.rig.Watch(ctx)
	if err != nil {
		return err
	}
	defer events.Close()
	for _, k := range []struct{ id, signal, exit string }{{polite, "SIGTERM", "polite=5"}, {rude, "SIGKILL", "rude=137"}} {
		if err := succeeds(b.rig.Ctr(ctx, "tasks", "kill", "--signal", k.signal, k.id)); err != nil {
			return err
		}
		if err := errors.Join(b.exits(ctx, events, k.id, k.exit), b.becomes(ctx, k.id, task.Status_STOPPED)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) pause(ctx context.Context) (err error) {
	const id = "pause"
	remove, err := b.sleeper(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	events, err := b.rig.Watch(ctx)
	if err != nil {
		return err
	}
	defer events.Close()
	pause := func() error {
		return errors.Join(succeeds(b.rig.Ctr(ctx, "tasks", "pause", id)), b.becomes(ctx, id, task.Status_PAUSED))
	}
	if err := pause(); err != nil {
		return err
	}
	if err := errors.Join(succeeds(b.rig.Ctr(ctx, "tasks", "resume", id)), b.becomes(ctx, id, task.Status_RUNNING),
		succeeds(b.ctrExec(ctx, id, "e1", nil, "true"))); err != nil {
		return err
	}
	if err := pause(); err != nil {
		return err
	}
	if err := succeeds(b.rig.Ctr(ctx, "tasks", "kill", "--signal", "SIGKILL", id)); err != nil {
		return err
	}
	// On cgroup v1 a frozen process dies of SIGKILL once it is thawed, which the kill of
	// runc before 1.0.0 does not do.
	var note error
	if b.becomes(ctx, id, task.Status_STOPPED) != nil {
		note = remark("a container that is killed while it is paused dies when it is resumed: the runtime's kill does not thaw it")
		if err := succeeds(b.rig.Ctr(ctx, "tasks", "resume", id)); err != nil {
			return err
		}
	}
	return cmp.Or(errors.Join(b.becomes(ctx, id, task.Status_STOPPED), b.exits(ctx, events, id, "e1=0", "pause=137")), note)
}

// update goes to the daemon's API, because ctr has no command for it.
func (b *bench) update(ctx context.Context) (err error) {
	const id, limit, most = "update", int64(64 << 20), int64(77)
	remove, err := b.sleeper(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	bytes, processes := limit, most
	data, err := json.Marshal(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &bytes}, Pids: &specs.LinuxPids{Limit: processes}})
	if err != nil {
		return err
	}
	any := &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", Value: data}
	if _, err := b.api.Update(b.call(ctx), &tasks.UpdateTaskRequest{ContainerID: id, Resources: any}); err != nil {
		return err
	}
	p, err := b.status(ctx, id)
	if err != nil {
		return err
	}
	return errors.Join(cgroupHas(int(p.Pid), "memory", "memory.limit_in_bytes", limit), cgroupHas(int(p.Pid), "pids", "pids.max", most))
}

// cgroupHas compares a file of a process's cgroup with a number.
func cgroupHas(pid int, controller, file string, want int64) error {
	text, err := os.ReadFile(procfs.File(pid, "cgroup"))
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.SplitN(line, ":", 3)
		if len(f) != 3 || f[1] != controller {
			continue
		}
		got, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, f[2], file))
		if err == nil && strings.TrimSpace(string(got)) != fmt.Sprint(want) {
			err = fmt.Errorf("%s: got %q, want %d", file, got, want)
		}
		return err
	}
	return fmt.Errorf("process %d has no cgroup of %s", pid, controller)
}

func (b *bench) restart(ctx context.Context) (err error) {
	const lives, ends = "lives", "ends"
	for _, id := range []string{lives, ends} {
		remove, err2 := b.sleeper(ctx, id)
		if err2 != nil {
			return err2
		}
		defer func() { err = errors.Join(err, remove()) }()
	}
	before, err := b.status(ctx, lives)
	if err != nil {
		return err
	}
	victim, err := b.status(ctx, ends)
	if err != nil {
		return err
	}
	if err := b.rig.StopContainerd(syscall.SIGKILL); err != nil {
		return err
	}
	if err := syscall.Kill(int(victim.Pid), syscall.SIGKILL); err != nil {
		return err
	}
	if err := errors.Join(wait.For(soon, "the process was reaped", func() bool { return !procfs.Exists(int(victim.Pid)) }),
		b.rig.StartContainerd(ctx)); err != nil {
		return err
	}
	// The client connects again by itself, after a pause.
	if err := errors.Join(b.becomes(ctx, lives, task.Status_RUNNING), b.becomes(ctx, ends, task.Status_STOPPED)); err != nil {
		return err
	}
	after, err := b.status(ctx, lives)
	if err != nil {
		return err
	}
	if after.Pid != before.Pid {
		return fmt.Errorf("%s: got pid %d after the restart, want %d", lives, after.Pid, before.Pid)
	}
	gone, err := b.api.Delete(b.call(ctx), &tasks.DeleteTaskRequest{ContainerID: ends})
	if err != nil {
		return err
	}
	if gone.ExitStatus != 137 {
		return fmt.Errorf("%s: got exit status %d after the restart, want 137", ends, gone.ExitStatus)
	}
	return gives(b.ctrExec(ctx, lives, "e1", nil, "sh", "-c", "exit 21"), ended{code: 21})
}

func (b *bench) flood(ctx context.Context) (err error) {
	const id = "flood"
	remove, err := b.sleeper(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	report, err := b.rig.Flood(ctx, daemons.Flood{Container: id, N: 200, Prefix: "f", Limit: scenarioLimit / 2})
	if err != nil {
		return err
	}
	if p := report.Problems(); len(p) > 0 {
		return errors.New(strings.Join(p, "; "))
	}
	return nil
}
