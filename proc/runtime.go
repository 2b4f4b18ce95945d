// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	runc "github.com/containerd/go-runc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Runtime is what this package needs of an OCI runtime. Every call returns an
// error with a class, whose text holds the runtime's own last words. The
// context bounds the call: at its end the runtime is killed.
type Runtime interface {
	Create(ctx context.Context, id, bundle string, o CreateCall) error
	Start(ctx context.Context, id string) error
	Exec(ctx context.Context, id string, spec specs.Process, o ExecCall) error
	Kill(ctx context.Context, id string, sig int, all bool) error
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	// Delete of a container that the runtime does not know succeeds.
	Delete(ctx context.Context, id string, force bool) error
	Ps(ctx context.Context, id string) ([]int, error)
	Update(ctx context.Context, id string, r *specs.LinuxResources) error
	Checkpoint(ctx context.Context, id string, o CheckpointOptions) error
	Restore(ctx context.Context, id, bundle string, o RestoreCall) error
	// Exists tells whether the runtime keeps state of a container.
	Exists(id string) bool
	// IgnoresKillAll tells whether "kill --all" reaches only init, as in runc
	// since 1.2 (opencontainers/runc #3825).
	IgnoresKillAll(ctx context.Context) bool
}

// CreateCall, ExecCall and RestoreCall are the arguments of one such call.
type CreateCall struct {
	IO           runc.IO
	PidFile      string
	Console      runc.ConsoleSocket // nil without a terminal
	NoPivot      bool
	NoNewKeyring bool
}

// ExecCall is described at CreateCall.
type ExecCall struct {
	IO      runc.IO
	PidFile string
	Console runc.ConsoleSocket
}

// RestoreCall is described at CreateCall.
type RestoreCall struct {
	CreateCall
	ImagePath string
	WorkPath  string
}

// CheckpointOptions are the options of containerd's CheckpointTaskRequest that
// reach the runtime.
type CheckpointOptions struct {
	Exit                bool
	OpenTCP             bool
	ExternalUnixSockets bool
	Terminal            bool
	FileLocks           bool
	EmptyNamespaces     []string
	Path                string
	WorkPath            string
}

// RuntimeConfig configures NewRunc.
type RuntimeConfig struct {
	// Root is runc's --root.
	Root string
	// LogDir is where the log of each call is kept while it runs.
	LogDir        string
	SystemdCgroup bool
	// Timeout bounds each call; generous, for hooks may take minutes.
	Timeout time.Duration
	// Monitor starts and reaps the commands.
	Monitor runc.ProcessMonitor
}

// NewRunc returns a Runtime factory for Env. It sets go-runc's Monitor, of
// which there is one per process.
func NewRunc(c RuntimeConfig) func(command string) Runtime {
	runc.Monitor = c.Monitor
	return func(command string) Runtime { return &runcRuntime{RuntimeConfig: c, command: command} }
}

// runcRuntime runs runc, or what understands runc's command line.
type runcRuntime struct {
	RuntimeConfig
	command string
	major12 versionCache
}

// calls numbers the log files of this process's runtime calls.
var calls atomic.Uint64

// call runs one command with a log file of its own. A log that all calls
// append to grows for ever, and a call that fails without logging is blamed
// for an earlier one's error.
func (r *runcRuntime) call(ctx context.Context, verb string, fn func(context.Context, *runc.Runc) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	log := filepath.Join(r.LogDir, fmt.Sprintf("log.%d.json", calls.Add(1)))
	defer func() { _ = os.Remove(log) }() // most calls log nothing
	start := time.Now()
	err := fn(ctx, &runc.Runc{
		Command:       r.command,
		Root:          r.Root,
		Log:           log,
		LogFormat:     runc.JSON,
		PdeathSignal:  unix.SIGKILL,
		SystemdCgroup: r.SystemdCgroup,
	})
	if err == nil {
		return nil
	}
	if _, missing := exec.LookPath(r.command); missing != nil {
		err = missing // go-runc keeps only the text of most verbs' start errors
	}
	return explain(verb, log, err, ctx.Err(), time.Since(start))
}

func (r *runcRuntime) Create(ctx context.Context, id, bundle string, o CreateCall) error {
	return r.call(ctx, "create", func(ctx context.Context, c *runc.Runc) error {
		return c.Create(ctx, id, bundle, &runc.CreateOpts{
			IO: o.IO, PidFile: o.PidFile, ConsoleSocket: o.Console,
			NoPivot: o.NoPivot, NoNewKeyring: o.NoNewKeyring,
		})
	})
}

func (r *runcRuntime) Start(ctx context.Context, id string) error {
	return r.call(ctx, "start", func(ctx context.Context, c *runc.Runc) error { return c.Start(ctx, id) })
}

func (r *runcRuntime) Exec(ctx context.Context, id string, spec specs.Process, o ExecCall) error {
	settleTempDir()
	return r.call(ctx, "exec", func(ctx context.Context, c *runc.Runc) error {
		return c.Exec(ctx, id, spec, &runc.ExecOpts{
			IO: o.IO, PidFile: o.PidFile, ConsoleSocket: o.Console, Detach: true,
		})
	})
}

func (r *runcRuntime) Kill(ctx context.Context, id string, sig int, all bool) error {
	return r.call(ctx, "kill", func(ctx context.Context, c *runc.Runc) error {
		return c.Kill(ctx, id, sig, &runc.KillOpts{All: all})
	})
}

func (r *runcRuntime) Pause(ctx context.Context, id string) error {
	return r.call(ctx, "pause", func(ctx context.Context, c *runc.Runc) error { return c.Pause(ctx, id) })
}

func (r *runcRuntime) Resume(ctx context.Context, id string) error {
	return r.call(ctx, "resume", func(ctx context.Context, c *runc.Runc) error { return c.Resume(ctx, id) })
}

func (r *runcRuntime) Delete(ctx context.Context, id string, force bool) error {
	err := r.call(ctx, "delete", func(ctx context.Context, c *runc.Runc) error {
		return c.Delete(ctx, id, &runc.DeleteOpts{Force: force})
	})
	if unknownContainer(err) {
		return nil // a checkpoint with exit has removed it, or it never was
	}
	return err
}

func (r *runcRuntime) Ps(ctx context.Context, id string) (pids []int, err error) {
	err = r.call(ctx, "ps", func(ctx context.Context, c *runc.Runc) error {
		pids, err = c.Ps(ctx, id)
		return err
	})
	return pids, err
}

func (r *runcRuntime) Update(ctx context.Context, id string, res *specs.LinuxResources) error {
	return r.call(ctx, "update", func(ctx context.Context, c *runc.Runc) error { return c.Update(ctx, id, res) })
}

func (r *runcRuntime) Checkpoint(ctx context.Context, id string, o CheckpointOptions) error {
	var actions []runc.CheckpointAction
	if !o.Exit {
		actions = append(actions, runc.LeaveRunning)
	}
	return r.call(ctx, "checkpoint", func(ctx context.Context, c *runc.Runc) error {
		return c.Checkpoint(ctx, id, &runc.CheckpointOpts{
			ImagePath:                o.Path,
			WorkDir:                  o.WorkPath,
			AllowOpenTCP:             o.OpenTCP,
			AllowExternalUnixSockets: o.ExternalUnixSockets,
			AllowTerminal:            o.Terminal,
			FileLocks:                o.FileLocks,
			EmptyNamespaces:          o.EmptyNamespaces,
		}, actions...)
	})
}

func (r *runcRuntime) Restore(ctx context.Context, id, bundle string, o RestoreCall) error {
	return r.call(ctx, "restore", func(ctx context.Context, c *runc.Runc) error {
		_, err := c.Restore(ctx, id, bundle, &runc.RestoreOpts{
			CheckpointOpts: runc.CheckpointOpts{ImagePath: o.ImagePath, WorkDir: o.WorkPath},
			IO:             o.IO,
			Detach:         true,
			PidFile:        o.PidFile,
			NoPivot:        o.NoPivot,
			NoSubreaper:    true,
			ConsoleSocket:  o.Console,
		})
		return err
	})
}

// Exists looks for <root>/<id>, where runc and crun keep a container's state.
func (r *runcRuntime) Exists(id string) bool {
	_, err := os.Lstat(filepath.Join(r.Root, id))
	return err == nil
}
