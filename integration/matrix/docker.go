// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"containerd-shim.v1/integration/daemons"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// attached returns a `docker run --rm` that stays with its container.
func (b *bench) attached(ctx context.Context, options []string, argv ...string) *exec.Cmd {
	args := append([]string{"run", "--rm", "--network", "none"}, options...)
	return b.rig.Docker(ctx, append(append(args, daemons.ImageName), argv...)...)
}

// detached starts a container, and returns its id and what removes it.
func (b *bench) detached(ctx context.Context, options []string, argv ...string) (id string, remove func() error, err error) {
	id, err = b.rig.DockerRun(ctx, options, argv...)
	remove = func() error { return succeeds(b.rig.Docker(ctx, "rm", "-f", id)) }
	if err != nil && id != "" {
		err = errors.Join(err, remove())
	}
	return id, remove, err
}

// inspect evaluates a template on a container.
func (b *bench) inspect(ctx context.Context, id, format string) (string, error) {
	got, err := do(b.rig.Docker(ctx, "inspect", "--format", format, id))
	if err == nil && got.code != 0 {
		err = fmt.Errorf("docker inspect %s: %+v", id, got)
	}
	return strings.TrimSpace(got.stdout), err
}

// shows waits until a template gives that text.
func (b *bench) shows(ctx context.Context, id, format, want string) error {
	var last string
	var err error
	if wait.Until(soon, func() bool { last, err = b.inspect(ctx, id, format); return err == nil && last == want }) {
		return nil
	}
	return errors.Join(fmt.Errorf("%s of the container: got %q, want %q", format, last, want), err)
}

// pid returns the pid of a running container's init, as docker knows it.
func (b *bench) pid(ctx context.Context, id string) (int, error) {
	text, err := b.inspect(ctx, id, "{{.State.Pid}}")
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(text)
	if err == nil && pid == 0 {
		err = errors.New("the container has no process")
	}
	return pid, err
}

// logged waits until the container has written that line.
func (b *bench) logged(ctx context.Context, id, line string) error {
	return wait.For(soon, fmt.Sprintf("%q in the container's log", line), func() bool {
		got, err := do(b.rig.Docker(ctx, "logs", id))
		return err == nil && strings.Contains("\n"+got.stdout, "\n"+line+"\n")
	})
}

// code runs a command of which only the exit code matters.
func code(cmd *exec.Cmd, want int) error {
	got, err := do(cmd)
	if err == nil && got.code != want {
		err = fmt.Errorf("%s: got %+v, want exit %d", strings.Join(cmd.Args[1:], " "), got, want)
	}
	return err
}

// unlikeRunc is a remark on crun up to 1.8.1.
const unlikeRunc = remark("docker run of a program that is not there exits with 125, not 127, also under Debian's shim: docker looks for runc's \"no such file or directory\", and this crun writes a capital")

func (b *bench) dockerRun(ctx context.Context) error {
	missing, note := 127, error(nil)
	if b.pair.runtime.kind() == "crun" {
		missing, note = 125, unlikeRunc
	}
	input := b.attached(ctx, []string{"-i"}, "sh", "-c", "read x; echo got $x; exit 9")
	input.Stdin = strings.NewReader("word\n")
	return cmp.Or(errors.Join(
		gives(b.attached(ctx, nil, "sh", "-c", "echo out; echo err >&2; exit 7"), ended{7, "out\n", "err\n"}),
		gives(input, ended{9, "got word\n", ""}),
		code(b.attached(ctx, nil, "sh", "-c", "kill -KILL $$; exit 3"), 3), // the kernel spares the init of a pid namespace
		code(b.attached(ctx, nil, "/no/such/binary"), missing)), note)
}

func (b *bench) dockerTerminal(ctx context.Context) (err error) {
	if err := onTerminal(b.attached(ctx, []string{"-it"}, "sh", "-c", atSize)); err != nil {
		return fmt.Errorf("docker run -it: %w", err)
	}
	id, remove, err := b.detached(ctx, nil, "sleep", "100000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return onTerminal(b.rig.Docker(ctx, "exec", "-it", id, "sh", "-c", atSize))
}

func (b *bench) dockerExec(ctx context.Context) (err error) {
	id, remove, err := b.detached(ctx, nil, "sleep", "100000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	input := b.rig.Docker(ctx, "exec", "-i", id, "cat")
	input.Stdin = strings.NewReader("one\ntwo\n")
	return errors.Join(
		gives(b.rig.Docker(ctx, "exec", id, "sh", "-c", "echo out; echo err >&2"), ended{0, "out\n", "err\n"}),
		gives(input, ended{0, "one\ntwo\n", ""}),
		code(b.rig.Docker(ctx, "exec", id, "sh", "-c", "exit 42"), 42),
		code(b.rig.Docker(ctx, "exec", id, "sh", "-c", "kill -KILL $$"), 137),
		code(b.rig.Docker(ctx, "exec", id, "/no/such/binary"), 126))
}

// dockerLogs lets the container write its second half once the first one has been read.
func (b *bench) dockerLogs(ctx context.Context) (err error) {
	const half, all = 1000, 2000
	id, remove, err := b.detached(ctx, nil, "sh", "-c",
		fmt.Sprintf("seq 1 %d; until [ -e /go ]; do sleep 0.1; done; seq %d %d; exit 3", half, half+1, all))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	cmd := b.rig.Docker(ctx, "logs", "-f", id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n++
		if got := lines.Text(); got != strconv.Itoa(n) && err == nil {
			err = fmt.Errorf("line %d of docker logs -f is %q", n, got)
		}
		if n == half {
			err = errors.Join(err, succeeds(b.rig.Docker(ctx, "exec", id, "touch", "/go")))
		}
	}
	if n != all {
		err = errors.Join(err, fmt.Errorf("docker logs -f has ended after %d lines, want %d", n, all))
	}
	return errors.Join(err, cmd.Wait(), b.shows(ctx, id, "{{.State.Status}} {{.State.ExitCode}}", "exited 3"))
}

func (b *bench) dockerKill(ctx context.Context) (err error) {
	polite, removePolite, err := b.detached(ctx, nil, "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removePolite()) }()
	rude, removeRude, err := b.detached(ctx, nil, "sleep", "100000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeRude()) }()
	if err := b.logged(ctx, polite, "ready"); err != nil {
		return err
	}
	return errors.Join(
		succeeds(b.rig.Docker(ctx, "stop", "--time", "30", polite)),
		b.shows(ctx, polite, "{{.State.Status}} {{.State.ExitCode}}", "exited 5"),
		succeeds(b.rig.Docker(ctx, "kill", rude)),
		gives(b.rig.Docker(ctx, "wait", rude), ended{0, "137\n", ""}),
		b.shows(ctx, rude, "{{.State.Status}} {{.State.ExitCode}}", "exited 137"))
}

func (b *bench) dockerPause(ctx context.Context) (err error) {
	id, remove, err := b.detached(ctx, nil, "sleep", "100000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return errors.Join(
		succeeds(b.rig.Docker(ctx, "pause", id)),
		b.shows(ctx, id, "{{.State.Status}}", "paused"),
		succeeds(b.rig.Docker(ctx, "unpause", id)),
		b.shows(ctx, id, "{{.State.Status}}", "running"),
		succeeds(b.rig.Docker(ctx, "exec", id, "true")))
}

func (b *bench) dockerRestore(ctx context.Context) (err error) {
	lives, removeLives, err := b.detached(ctx, nil, "sh", "-c",
		"n=0; trap 'exit 9' TERM; while :; do n=$((n+1)); echo tick $n; sleep 0.1; done")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeLives()) }()
	ends, removeEnds, err := b.detached(ctx, nil, "sleep", "100000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeEnds()) }()
	pid, err := b.pid(ctx, lives)
	if err != nil {
		return err
	}
	victim, err := b.pid(ctx, ends)
	if err != nil {
		return err
	}
	if err := b.rig.KillAll(); err != nil {
		return err
	}
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		return err
	}
	if err := errors.Join(wait.For(soon, "the process was reaped", func() bool { return !procfs.Exists(victim) }),
		b.rig.StartContainerd(ctx), b.rig.StartDockerd(ctx)); err != nil {
		return err
	}
	if err := errors.Join(
		b.shows(ctx, lives, "{{.State.Status}} {{.State.Pid}}", fmt.Sprint("running ", pid)),
		b.shows(ctx, ends, "{{.State.Status}} {{.State.ExitCode}}", "exited 137"),
		code(b.rig.Docker(ctx, "exec", lives, "sh", "-c", "exit 21"), 21),
		succeeds(b.rig.Docker(ctx, "stop", "--time", "30", lives)),
		b.shows(ctx, lives, "{{.State.Status}} {{.State.ExitCode}}", "exited 9")); err != nil {
		return err
	}
	// What was written while no daemon read it is not lost: the numbers have no gap.
	log, err := do(b.rig.Docker(ctx, "logs", lives))
	for i, line := range strings.Split(strings.TrimSpace(log.stdout), "\n") {
		if want := fmt.Sprint("tick ", i+1); line != want && err == nil {
			err = fmt.Errorf("line %d of the log: got %q, want %q", i+1, line, want)
		}
	}
	return err
}

func (b *bench) dockerRemove(ctx context.Context) error {
	named := []string{"--name", "again"}
	for _, before := range [][]string{nil, {"pause", "again"}, nil} {
		_, remove, err := b.detached(ctx, named, "sleep", "100000")
		if err != nil {
			return err
		}
		if before != nil {
			err = succeeds(b.rig.Docker(ctx, before...))
		}
		if err = errors.Join(err, remove()); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) dockerFlood(ctx context.Context) (err error) {
	const n = 100
	id, remove, err := b.detached(ctx, nil, "sleep", "100000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { errs[i] = code(b.rig.Docker(ctx, "exec", id, "sh", "-c", fmt.Sprint("exit ", i)), i) })
	}
	all.Wait()
	var first error
	failed := 0
	for _, err := range errs {
		if err != nil {
			first = errors.Join(first, err)
			failed++
		}
	}
	if failed > 0 {
		err = fmt.Errorf("%d of %d execs failed: %.500s", failed, n, first.Error())
	}
	return errors.Join(err, b.shows(ctx, id, "{{.ExecIDs}}", "[]"))
}

// remapped is the user that root of a container is, with userns-remap.
const remapped = 100000

// dockerUserns needs a user with a range of ids. The root file system is the pair's own.
// What a container's root opens anew, as /dev/stdout, must belong to it: the shim gives
// the pipes away.
func (b *bench) dockerUserns(ctx context.Context) (err error) {
	for file, text := range map[string]string{
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nremap:x:1000:1000::/:/bin/sh\n",
		"/etc/group":  "root:x:0:\nremap:x:1000:\n",
		"/etc/subuid": fmt.Sprintf("remap:%d:65536\n", remapped),
		"/etc/subgid": fmt.Sprintf("remap:%d:65536\n", remapped),
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	// Otherwise the container's root cannot reach its own root file system.
	for _, dir := range []string{b.rig.Dir, b.rig.Dir + "/docker"} {
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	}
	restart := func(args ...string) error {
		b.rig.DockerdArgs = args
		return errors.Join(b.rig.StopDockerd(syscall.SIGTERM), b.rig.StartDockerd(ctx))
	}
	if err := restart("--userns-remap", "remap"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restart()) }()
	id, remove, err := b.detached(ctx, nil, "sleep", "100000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	pid, err := b.pid(ctx, id)
	if err != nil {
		return err
	}
	outside, err := os.Stat(procfs.File(pid, ""))
	if err != nil {
		return err
	}
	if got := outside.Sys().(*syscall.Stat_t).Uid; got != remapped {
		return fmt.Errorf("the container's root is user %d outside, want %d", got, remapped)
	}
	const both = "id -u; echo out >/dev/stdout; echo err >/dev/stderr; exit 7"
	return errors.Join(
		gives(b.attached(ctx, nil, "sh", "-c", both), ended{7, "0\nout\n", "err\n"}),
		gives(b.rig.Docker(ctx, "exec", id, "sh", "-c", both), ended{7, "0\nout\n", "err\n"}))
}
