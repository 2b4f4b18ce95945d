// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"containerd-shim.v1/integration/daemons"
	"containerd-shim.v1/integration/harness/wait"
)

const (
	// scenarioLimit bounds a scenario; the longest, the way through the releases, takes a
	// minute or two, and on a busy machine several times as long.
	scenarioLimit = 10 * time.Minute
	// soon bounds what happens within a second on an idle host.
	soon = 30 * time.Second
)

// bench is a pair with its daemon running.
type bench struct {
	pair pair
	rig  *daemons.Rig
	conn *grpc.ClientConn
	api  tasks.TasksClient
	way  way
}

// files returns where each program of the pair is to be, and where it is now.
func (p pair) files(programs, shim string) map[string]string {
	files := map[string]string{"/usr/bin/containerd-shim": shim}
	daemon := func(d program, dir string) {
		for _, f := range []string{"containerd", "ctr"} {
			files[filepath.Join(dir, f)] = d.at(programs, f)
		}
	}
	files["/usr/sbin/criu"] = p.criu().at(programs, "criu")
	kind := p.runtime.kind()
	runtime := map[string]string{"runc": "/usr/sbin/runc", "crun": "/usr/bin/crun"}[kind]
	switch p.daemon.kind() {
	case "containerd":
		daemon(p.daemon, "/usr/bin")
	case "releases":
		for _, d := range releases() {
			daemon(d, d.home())
		}
	case "dockerd":
		daemon(p.daemon, "/usr/bin")
		files["/usr/sbin/dockerd"] = p.daemon.at(programs, "dockerd")
		files["/usr/bin/docker"] = p.daemon.at(programs, "docker")
		runtime = "/usr/sbin/runc" // the only runtime of dockerd's that the v1 shim runs
	}
	files[runtime] = p.runtime.at(programs, kind)
	return files
}

// check returns an error if the program is not of the release that its name says: a suite
// gets newer ones. file is what it is run by.
func (p program) check(ctx context.Context, file string) error {
	if p.built() || p.kind() == "releases" {
		return nil // of that release's module; of several
	}
	out, err := exec.CommandContext(ctx, file, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s --version: %w", file, err)
	}
	if !strings.Contains(strings.ReplaceAll(string(out), "~rc", "-rc"), " "+p.version()) {
		return fmt.Errorf("%s has another release than %s: %q", p.dir, p.version(), out)
	}
	return nil
}

// newBench starts the daemon of a pair. The caller must Close the rig, unless there is
// an error.
func newBench(ctx context.Context, p pair) (*bench, error) {
	runtime := p.runtime.kind()
	if p.daemon.kind() == "dockerd" {
		runtime = "runc" // as files has placed it
	}
	if err := errors.Join(p.daemon.check(ctx, p.daemon.kind()), p.runtime.check(ctx, runtime)); err != nil {
		return nil, err
	}
	rig, err := daemons.New("/usr/bin/containerd-shim")
	if err != nil {
		return nil, err
	}
	rig.Runtime = runtime
	if p.daemon.kind() == "releases" {
		rig.Daemon = filepath.Join(releases()[0].home(), "containerd")
	}
	b := &bench{pair: p, rig: rig}
	rig.Before = "export " + withoutBreakpoints
	err = rig.StartContainerd(ctx)
	if err == nil && p.daemon.kind() == "dockerd" {
		err = rig.StartDockerd(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, rig.Close())
	}
	b.conn, err = grpc.NewClient("passthrough:///"+rig.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dialUnix))
	if err != nil {
		return nil, errors.Join(err, rig.Close())
	}
	b.api = tasks.NewTasksClient(b.conn)
	return b, nil
}

// close removes what the scenarios have left, and says so.
func (b *bench) close() error {
	err := errors.Join(b.conn.Close(), b.rig.Close(), removeHidden(b.rig.Name))
	if b.pair.daemon.kind() == "dockerd" && b.pair.runtime.name == "crun 0.17" && leftOnlyCgroups(err) {
		return remark("the cgroups of a container that this crun could not create are left, also by Debian's shim")
	}
	return err
}

// leftOnlyCgroups reports whether a census has found cgroups, and nothing else.
func leftOnlyCgroups(census error) bool {
	if census == nil {
		return false
	}
	for _, line := range strings.Split(census.Error(), "\n") {
		if !strings.HasPrefix(line, "left behind: cgroup ") {
			return false
		}
	}
	return true
}

// try runs one scenario.
func (b *bench) try(ctx context.Context, s scenario) error {
	ctx, cancel := context.WithTimeout(ctx, scenarioLimit)
	defer cancel()
	return s.run(b, ctx)
}

// call adds the rig's namespace to a context for the daemon's API.
func (b *bench) call(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", b.rig.Name)
}

// sleeper starts a container that does nothing, and returns what removes it.
func (b *bench) sleeper(ctx context.Context, id string) (remove func() error, err error) {
	return b.start(ctx, id, "sleep", "100000")
}

// start starts a container without stdio, and returns what removes it.
func (b *bench) start(ctx context.Context, id string, argv ...string) (remove func() error, err error) {
	if err := b.rig.Run(ctx, id, nil, argv...); err != nil {
		return nil, err
	}
	return func() error { return b.rig.Remove(ctx, id) }, nil
}

// rootfs returns the path, from outside, of a file in a running container.
func (b *bench) rootfs(id, file string) string {
	return filepath.Join(b.rig.Dir, "state", daemons.Runtime, b.rig.Name, id, "rootfs", file)
}

// status asks the daemon for the state of a task.
func (b *bench) status(ctx context.Context, id string) (*task.Process, error) {
	got, err := b.api.Get(b.call(ctx), &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return nil, err
	}
	return got.Process, nil
}

// becomes waits until a task has a state.
func (b *bench) becomes(ctx context.Context, id string, want task.Status) error {
	var last any
	if wait.Until(soon, func() bool {
		p, err := b.status(ctx, id)
		if err != nil {
			last = err
			return false
		}
		last = p.Status
		return p.Status == want
	}) {
		return nil
	}
	return fmt.Errorf("%s does not become %v: it is %v", id, want, last)
}

// exits waits for the exit events of a container, and returns an error unless they are
// want, in this order: "ID=STATUS", each once.
func (b *bench) exits(ctx context.Context, events *daemons.Events, id string, want ...string) error {
	_ = events.Wait(soon, func([]daemons.Event) bool { return len(events.Exits(id)) >= len(want) }) // judged below
	if err := events.Fence(ctx); err != nil {
		return err
	}
	var got []string
	for _, e := range events.Exits(id) {
		got = append(got, fmt.Sprintf("%s=%d", e.ID, e.ExitStatus))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		return fmt.Errorf("exits of %s: got %v, want %v", id, got, want)
	}
	return nil
}

// ended is how a client's command ended.
type ended struct {
	code           int
	stdout, stderr string
}

// do runs a command that may fail; the error says that it could not be run, or was killed.
func do(cmd *exec.Cmd) (ended, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0) {
		return ended{}, fmt.Errorf("%v: %w: %s", cmd.Args, err, stderr.String())
	}
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}, nil
}

// gives runs a command and compares how it ends. Newer clients put a warning about the
// old runtime before what the container writes to its standard error.
func gives(cmd *exec.Cmd, want ended) error {
	got, err := do(cmd)
	if err == nil && (got.code != want.code || got.stdout != want.stdout || !strings.HasSuffix(got.stderr, want.stderr)) {
		err = fmt.Errorf("%s: got %+v, want %+v", strings.Join(cmd.Args[1:], " "), got, want)
	}
	return err
}

// succeeds runs a command whose output does not matter.
func succeeds(cmd *exec.Cmd) error {
	got, err := do(cmd)
	if err == nil && got.code != 0 {
		err = fmt.Errorf("%s: %+v", strings.Join(cmd.Args[1:], " "), got)
	}
	return err
}

// ctrExec returns an attached `ctr tasks exec`.
func (b *bench) ctrExec(ctx context.Context, id, exec string, options []string, argv ...string) *exec.Cmd {
	args := append([]string{"tasks", "exec", "--exec-id", exec, "--fifo-dir", filepath.Join(b.rig.Dir, "fifo")}, options...)
	return b.rig.Ctr(ctx, append(append(args, id), argv...)...)
}
