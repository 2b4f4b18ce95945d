// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"

	runc "github.com/containerd/go-runc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Runtime is what this package needs of an OCI runtime. Every call returns an
// error with a class, whose text holds the runtime's last error message. The
// context bounds the call: when it ends, the runtime is killed.
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
	// Status is what the runtime calls the container: "created", "running",
	// "paused" or "stopped".
	Status(ctx context.Context, id string) (string, error)
	Update(ctx context.Context, id string, r *specs.LinuxResources) error
	Checkpoint(ctx context.Context, id string, o CheckpointOptions) error
	Restore(ctx context.Context, id, bundle string, o RestoreCall) error
	// Exists reports whether the runtime keeps state of a container.
	Exists(id string) bool
	// IgnoresKillAll reports whether "kill --all" reaches only init, as in runc
	// since 1.2 (opencontainers/runc #3825).
	IgnoresKillAll(ctx context.Context) bool
}

// CreateCall holds the arguments of Runtime.Create.
type CreateCall struct {
	IO           *stdio.Streams
	PidFile      string
	Console      runc.ConsoleSocket // nil without a terminal
	NoPivot      bool
	NoNewKeyring bool
}

// ExecCall holds the arguments of Runtime.Exec.
type ExecCall struct {
	IO      *stdio.Streams
	PidFile string
	Console runc.ConsoleSocket
}

// RestoreCall holds the arguments of Runtime.Restore.
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
	// Dir is where the files are that live as long as a call: its log, the
	// process of an exec. It is the bundle, which lives as long as the shim.
	Dir           string
	SystemdCgroup bool
	// Timeout bounds each call; generous, for hooks may take minutes.
	Timeout time.Duration
	// ImageTimeout bounds checkpoint and restore, whose time grows with the
	// container's memory; killed halfway they leave it frozen.
	ImageTimeout time.Duration
	// Monitor starts and reaps the commands.
	Monitor *reaper.Monitor
}

// NewRunc returns a Runtime factory for Env. An empty command means "runc".
func NewRunc(c RuntimeConfig) func(command string) Runtime {
	return func(command string) Runtime {
		return &runcRuntime{RuntimeConfig: c, command: cmp.Or(command, runc.DefaultCommand)}
	}
}

// runcRuntime runs runc, or what understands runc's command line. It does not use
// go-runc's methods, which lose the type of an error, wait by os/exec and need
// files in /tmp.
type runcRuntime struct {
	RuntimeConfig
	command string
	// said is what the runtime has said to --version; nil until it was asked.
	said atomic.Pointer[string]
}

// calls numbers the files of this process's runtime calls.
var calls atomic.Uint64

// tempFile makes a file for one call. Its name cannot be that of a pid file.
func (r *runcRuntime) tempFile(kind string) (*os.File, error) {
	name := filepath.Join(r.Dir, fmt.Sprintf(".%s.%d.json", kind, calls.Add(1)))
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

// remove closes and removes a file of tempFile's; f may be nil.
func remove(f *os.File) {
	if f != nil {
		_ = f.Close()           // what is in it is of no use any more
		_ = os.Remove(f.Name()) // goes with the bundle at the latest
	}
}

// call runs one command and returns its output. Each call has a log file of its
// own: one that all calls append to would grow forever, and a call that fails
// without logging would be blamed for an earlier one's error. The log serves error
// texts only, so where it cannot be created (no space, no inode, a read-only file
// system) the runtime logs to its stderr.
func (r *runcRuntime) call(ctx context.Context, limit time.Duration, c reaper.Command, io *stdio.Streams, verb string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	argv := []string{r.command}
	if r.Root != "" {
		argv = append(argv, "--root", r.Root)
	}
	log, err := r.tempFile("log")
	if err == nil {
		defer remove(log)
		argv = append(argv, "--log", log.Name())
	}
	argv = append(argv, "--log-format", "json")
	if r.SystemdCgroup {
		argv = append(argv, "--systemd-cgroup")
	}
	c.Args = append(append(argv, verb), args...)
	c.Pdeathsig = unix.SIGKILL
	if io != nil {
		c.Files, c.Started = io.ChildFiles(), io.CloseChildFiles
	}
	start := time.Now()
	out, status, err := r.Monitor.Run(ctx, c)
	if err == nil && status == 0 {
		return out, nil
	}
	if io != nil {
		out = append(out, io.RuntimeOutput()...)
	}
	return nil, explain(failure{
		verb: verb, command: r.command, log: log, output: out, status: status,
		err: err, ctxErr: context.Cause(ctx), took: time.Since(start),
	})
}

// do is call for a verb whose output does not matter.
func (r *runcRuntime) do(ctx context.Context, verb string, args ...string) error {
	_, err := r.call(ctx, r.Timeout, reaper.Command{}, nil, verb, args...)
	return err
}

// process runs a verb that starts a process with the streams of io. The shim's copies
// of the process's ends are closed as soon as the runtime has them.
func (r *runcRuntime) process(ctx context.Context, limit time.Duration, io *stdio.Streams, verb string, args ...string) error {
	_, err := r.call(ctx, limit, reaper.Command{}, io, verb, args...)
	return err
}

// args are the flags that create and restore have in common.
func (o CreateCall) args() []string {
	args := []string{"--pid-file", o.PidFile}
	if o.Console != nil {
		args = append(args, "--console-socket", o.Console.Path())
	}
	if o.NoPivot {
		args = append(args, "--no-pivot")
	}
	return args
}

func (r *runcRuntime) Create(ctx context.Context, id, bundle string, o CreateCall) error {
	args := append([]string{"--bundle", bundle}, o.args()...)
	if o.NoNewKeyring {
		args = append(args, "--no-new-keyring")
	}
	return r.process(ctx, r.Timeout, o.IO, "create", append(args, id)...)
}

func (r *runcRuntime) Start(ctx context.Context, id string) error { return r.do(ctx, "start", id) }

func (r *runcRuntime) Exec(ctx context.Context, id string, spec specs.Process, o ExecCall) error {
	f, err := r.tempFile("process")
	defer remove(f)
	if err == nil {
		err = json.NewEncoder(f).Encode(spec)
	}
	if err != nil {
		return internalf("write the process of an exec: %w", &reaper.StartError{Err: err})
	}
	args := []string{"--process", f.Name()}
	if o.Console != nil {
		args = append(args, "--console-socket", o.Console.Path())
	}
	return r.process(ctx, r.Timeout, o.IO, "exec", append(args, "--detach", "--pid-file", o.PidFile, id)...)
}

func (r *runcRuntime) Kill(ctx context.Context, id string, sig int, all bool) error {
	var args []string
	if all {
		args = []string{"--all"}
	}
	return r.do(ctx, "kill", append(args, id, strconv.Itoa(sig))...)
}

func (r *runcRuntime) Pause(ctx context.Context, id string) error  { return r.do(ctx, "pause", id) }
func (r *runcRuntime) Resume(ctx context.Context, id string) error { return r.do(ctx, "resume", id) }

func (r *runcRuntime) Delete(ctx context.Context, id string, force bool) error {
	var args []string
	if force {
		args = []string{"--force"}
	}
	err := r.do(ctx, "delete", append(args, id)...)
	if unknownContainer(err) {
		return nil // a checkpoint with exit has removed it, or it never existed
	}
	return err
}

func (r *runcRuntime) Ps(ctx context.Context, id string) (pids []int, err error) {
	return pids, r.query(ctx, &pids, "ps", "--format", "json", id)
}

func (r *runcRuntime) Status(ctx context.Context, id string) (string, error) {
	var state specs.State
	err := r.query(ctx, &state, "state", id)
	return string(state.Status), err
}

// query runs a verb that answers in JSON. Anything that a runtime without a log file
// writes before its answer is skipped.
func (r *runcRuntime) query(ctx context.Context, answer any, verb string, args ...string) error {
	out, err := r.call(ctx, r.Timeout, reaper.Command{}, nil, verb, args...)
	if err != nil {
		return err
	}
	for rest := out; ; {
		err := json.Unmarshal(rest, answer)
		next := bytes.IndexByte(rest, '\n')
		if err == nil || next < 0 {
			if err != nil {
				return internalf("runc %s: %w", verb, err)
			}
			return nil
		}
		rest = rest[next+1:]
	}
}

func (r *runcRuntime) Update(ctx context.Context, id string, res *specs.LinuxResources) error {
	data, err := json.Marshal(res)
	if err != nil {
		return internalf("runc update: %w", err)
	}
	_, err = r.call(ctx, r.Timeout, reaper.Command{Input: data}, nil, "update", "--resources=-", id)
	return err
}

func (r *runcRuntime) Checkpoint(ctx context.Context, id string, o CheckpointOptions) error {
	args := imageArgs(o.Path, o.WorkPath)
	for _, flag := range []struct {
		set  bool
		name string
	}{
		{o.OpenTCP, "--tcp-established"}, {o.ExternalUnixSockets, "--ext-unix-sk"},
		{o.Terminal, "--shell-job"}, {o.FileLocks, "--file-locks"},
	} {
		if flag.set {
			args = append(args, flag.name)
		}
	}
	for _, ns := range o.EmptyNamespaces {
		args = append(args, "--empty-ns", ns)
	}
	if !o.Exit {
		args = append(args, "--leave-running")
	}
	_, err := r.call(ctx, r.ImageTimeout, reaper.Command{}, nil, "checkpoint", append(args, id)...)
	return err
}

func (r *runcRuntime) Restore(ctx context.Context, id, bundle string, o RestoreCall) error {
	args := append(imageArgs(o.ImagePath, o.WorkPath), "--detach")
	if !r.isCrun(ctx) { // which is no subreaper, and refuses the option
		args = append(args, "-no-subreaper")
	}
	args = append(append(args, o.args()...), "--bundle", bundle, id)
	return r.process(ctx, r.ImageTimeout, o.IO, "restore", args...)
}

// imageArgs say where CRIU has its image and its work directory.
func imageArgs(image, work string) (args []string) {
	if image != "" {
		args = append(args, "--image-path", image)
	}
	if work != "" {
		args = append(args, "--work-path", work)
	}
	return args
}

// Exists looks for <root>/<id>, where runc and crun keep a container's state. One that
// cannot be looked for may be there, and is not to be deleted.
func (r *runcRuntime) Exists(id string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), existsTime)
	defer cancel()
	_, err := errclass.WhileExhausted(ctx, func() (os.FileInfo, error) { return os.Lstat(filepath.Join(r.Root, id)) })
	return !errors.Is(err, os.ErrNotExist)
}

// existsTime bounds Exists where memory is missing.
const existsTime = 2 * time.Second

// neverRan reports whether err is that of a command of the runtime that was not
// started: nothing has happened.
func neverRan(err error) bool { return errors.As(err, new(*reaper.StartError)) }
