// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

const (
	containerdBinary = "/usr/bin/containerd"
	ctrBinary        = "/usr/bin/ctr"
)

// recorder is put in the place of the daemon's own binary: it records its arguments
// and executes the real one.
const recorder = `#!/bin/sh
printf '%%s\n' "$*" >> %[1]s
exec %[2]s "$@"
`

// ledgerRecorder also keeps in a directory what containerd has accepted; eventLedger
// reads it.
const ledgerRecorder = `#!/bin/sh
printf '%%s\n' "$*" >> %[1]s
event=$(mktemp %[3]s/XXXXXXXX) && cat > "$event" || exit 1
%[2]s "$@" < "$event" || { status=$?; rm "$event"; exit $status; }
mv "$event" "$event.accepted"
`

// StartContainerd starts the Rig's containerd, or starts it again after it was
// stopped. The first time it also imports the image.
func (r *Rig) StartContainerd(ctx context.Context) error {
	first := size(r.path("containerd.toml")) == 0
	if r.placed != r.Daemon {
		if err := r.place(ctx); err != nil {
			return err
		}
	}
	program := r.self()
	if r.ledger != "" && !first {
		// The recorder stays: not one event may pass it by. A container that is made from
		// now on would have its shim publish without it.
		program = r.path("bin", "containerd.real")
	} else if err := r.placeSelf(); err != nil {
		return err
	}
	log := r.path("containerd.log")
	begin := size(log)
	cmd := exec.Command(program, "-c", r.path("containerd.toml"))
	if r.Before != "" {
		cmd = exec.Command("/bin/sh", append([]string{"-e", "-c", r.Before + `; exec "$0" "$@"`}, cmd.Args...)...)
	}
	cmd.Dir = r.Dir
	cmd.Env = append(withoutEnv(os.Environ(), "XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "TMPDIR"),
		"TMPDIR="+r.path("tmp"), "CONTAINERD_SHIM_STACK_DIR="+r.path("stacks"))
	d, err := startDaemon(cmd, log)
	if err != nil {
		return err
	}
	r.containerd = d
	// The first line of the log comes after Go has read /proc/self/exe, and before
	// any socket is served, so that the recorder misses no publish.
	if err := d.ready(func() error {
		if size(log) == begin {
			return errors.New("no log line yet")
		}
		return nil
	}); err != nil {
		return err
	}
	if err := r.installRecorder(); err != nil {
		return err
	}
	if err := d.answers(func() *exec.Cmd { return r.Ctr(ctx, "version") }); err != nil || !first {
		return err
	}
	return importTo(r.Ctr(ctx, slices.Concat([]string{"images", "import"}, r.dialect.imports, []string{"-"})...), r.image.OCI)
}

// place writes the configuration for r.Daemon, and puts a copy of its program to where
// it is started.
func (r *Rig) place(ctx context.Context) (err error) {
	if r.dialect, err = dialectOf(ctx, r.Daemon); err != nil {
		return err
	}
	text := fmt.Sprintf(r.dialect.config, r.path("root"), r.path("state"), r.Address(), r.path("opt"), r.Bin,
		cmp.Or(r.ttrpc, r.Address()+".ttrpc"), r.Runtime)
	if err := os.WriteFile(r.path("containerd.toml"), []byte(text), 0o600); err != nil {
		return err
	}
	program, err := os.ReadFile(r.Daemon)
	if err != nil {
		return err
	}
	// What runs of the last one keeps its file.
	aside := r.path("bin", "containerd.new")
	if err := os.WriteFile(aside, program, 0o700); err != nil {
		return err
	}
	if err := os.Rename(aside, r.path("bin", "containerd.real")); err != nil {
		return err
	}
	r.placed = r.Daemon
	return nil
}

// StopContainerd ends containerd by sig and waits for its end; its containers go on.
func (r *Rig) StopContainerd(sig syscall.Signal) error {
	if r.containerd == nil {
		return nil
	}
	err := r.containerd.stop(sig)
	r.containerd = nil
	return err
}

// self returns the path that containerd takes for its own and passes to its shims.
func (r *Rig) self() string { return r.path("bin", "containerd") }

// placeSelf puts the real daemon to where it is started from.
func (r *Rig) placeSelf() error {
	if err := os.Remove(r.self()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Link(r.path("bin", "containerd.real"), r.self())
}

func (r *Rig) installRecorder() error {
	script := fmt.Sprintf(recorder, r.path("publish.log"), r.path("bin", "containerd.real"))
	if r.ledger != "" {
		script = fmt.Sprintf(ledgerRecorder, r.path("publish.log"), r.path("bin", "containerd.real"), r.ledger)
	}
	aside := r.self() + ".new"
	if err := os.WriteFile(aside, []byte(script), 0o700); err != nil {
		return err
	}
	return os.Rename(aside, r.self())
}

// Publishes returns the arguments of every `containerd publish` that shims of this Rig
// have run so far.
func (r *Rig) Publishes() ([]string, error) {
	data, err := os.ReadFile(r.path("publish.log"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), nil
}

// Ctr returns a ctr command in the Rig's namespace. It is killed when ctx ends. It waits
// a minute for the daemon, which in a flood on two processors may take longer to answer
// than ctr's default of ten seconds.
func (r *Rig) Ctr(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(r.Daemon), "ctr"), append([]string{"--address", r.Address(), "--connect-timeout", "1m", "--namespace", r.Name}, args...)...)
	cmd.WaitDelay = 5 * time.Second // do not wait for long for others that hold its output open
	return cmd
}

// Run starts a detached container without stdio under the v1 shim. options are
// options of `ctr run`.
func (r *Rig) Run(ctx context.Context, id string, options []string, argv ...string) error {
	r.Note(r.Name, id)
	args := append([]string{"run", "--detach", "--null-io", "--runtime", Runtime}, options...)
	args = append(append(args, ImageName, id), argv...)
	_, err := output(r.Ctr(ctx, args...))
	return err
}

// Sleeper starts containerd, and a container that sleeps, and returns its shim.
func (r *Rig) Sleeper(ctx context.Context, id string) (*Shim, error) {
	if err := r.StartContainerd(ctx); err != nil {
		return nil, err
	}
	if err := r.Run(ctx, id, nil, "sleep", "100000"); err != nil {
		return nil, err
	}
	return r.Shim(r.Name, id)
}

// Remove kills and deletes a container that Run has started, whatever its state.
func (r *Rig) Remove(ctx context.Context, id string) error {
	tasks, err := output(r.Ctr(ctx, "tasks", "ls", "-q"))
	if err != nil {
		return err
	}
	for _, t := range strings.Fields(string(tasks)) {
		if t != id {
			continue
		}
		_, err := output(r.Ctr(ctx, "tasks", "delete", "--force", id))
		// ctr before 1.3 exits with the status of the task that it has deleted. If it has
		// not, the next deletion fails.
		if err != nil && r.dialect.modern {
			return err
		}
	}
	_, err = output(r.Ctr(ctx, "containers", "delete", id))
	return err
}

// Destroy ends a container whose shim no longer answers: it kills the shim, after
// which containerd cleans up as after a crash.
func (r *Rig) Destroy(ctx context.Context, id string) error {
	shim, err := r.Shim(r.Name, id)
	if err != nil {
		return err
	}
	if !strings.Contains(procfs.Command(shim.Pid), r.Dir) {
		return fmt.Errorf("pid %d is no longer a shim of this rig", shim.Pid)
	}
	if err := syscall.Kill(shim.Pid, syscall.SIGKILL); err != nil {
		return err
	}
	wait.Until(settleLimit, func() bool {
		_, err := os.Stat(shim.Bundle)
		return errors.Is(err, os.ErrNotExist)
	})
	return r.Remove(ctx, id)
}

// size returns the size of a file, 0 if there is none.
func size(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}

func withoutEnv(env []string, names ...string) []string {
	var kept []string
next:
	for _, e := range env {
		for _, n := range names {
			if strings.HasPrefix(e, n+"=") {
				continue next
			}
		}
		kept = append(kept, e)
	}
	return kept
}
