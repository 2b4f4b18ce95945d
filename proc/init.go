// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"

	"github.com/containerd/containerd/mount"
	"github.com/containerd/errdefs"
	runc "github.com/containerd/go-runc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// InitConfig is what a container is created from. Bundle and ID are required;
// the zero value of everything else is a default.
type InitConfig struct {
	ID      string
	Bundle  string
	Runtime string // name or path of the runtime's binary
	Rootfs  []mount.Mount
	Stdio   Stdio
	// Checkpoint is a CRIU image to restore from, instead of creating.
	Checkpoint   string
	NoPivotRoot  bool
	NoNewKeyring bool
	IoUID, IoGID uint32
	// CriuWorkPath is CRIU's work directory for a restore; default WorkDir.
	CriuWorkPath string
}

// Init is a container and its first process.
type Init struct {
	process
	config  InitConfig
	runtime Runtime
	rootfs  *rootfs
	starts  admission // of execs
	// sharedPids is true if the container's processes may outlive its init.
	sharedPids bool
	// diedUnseen is true if the process had ended before this program began, which
	// does not know whether the container was paused then.
	diedUnseen bool
}

// NewInit returns a container that Create has yet to make.
func NewInit(env *Env, c InitConfig) *Init {
	return &Init{
		process: newProcess(env, c.ID, c.Stdio),
		config:  c,
		runtime: env.NewRuntime(c.Runtime),
		rootfs:  newRootfs(c.Bundle, c.Rootfs),
		starts:  newAdmission(),
	}
}

// Bundle returns the container's bundle.
func (p *Init) Bundle() string { return p.config.Bundle }

// Create makes the container, with its process waiting in Created, or leaves
// nothing behind. For a checkpoint it only prepares: the process comes with
// Start. ctx bounds the runtime's work; at its end the runtime is killed.
func (p *Init) Create(ctx context.Context) error {
	if err := p.rootfs.mount(); err != nil {
		return err
	}
	p.sharedPids = sharesPidNamespace(p.config.Bundle)
	if p.config.Checkpoint != "" {
		return nil
	}
	io, err := p.openStreams()
	if err == nil {
		err = p.makeProcess(ctx, io, p.create)
	}
	if err != nil {
		return errors.Join(err, p.rootfs.detach())
	}
	return nil
}

// openStreams opens the client's streams. Those of a checkpoint are opened by Start, not
// by Create: a client that deletes it without a start first waits for their end, which
// would never come if the shim held them open.
func (p *Init) openStreams() (*stdio.Streams, error) {
	io, err := stdio.Open(p.ioConfig())
	if err != nil {
		return nil, err
	}
	p.setIO(io)
	if err := io.HoldInput(); err != nil {
		p.dropIO()
		io.Abort()
		return nil, err
	}
	return io, nil
}

// makeProcess has the runtime make the container with its process, or leaves
// nothing of either behind.
func (p *Init) makeProcess(ctx context.Context, io *stdio.Streams, run func(context.Context, CreateCall) error) error {
	existed := p.runtime.Exists(p.id)
	child, err := p.launch(ctx, io, run)
	if err != nil {
		p.dropIO()
		io.Abort()
		// What has ended the runtime's work must not end the clean-up.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.env.Limits.Kill)
		defer cancel()
		err = errors.Join(err, p.undoCreate(undo, child, existed))
		p.endAttempt()
		return err
	}
	io.Started()
	p.adopt(child)
	return nil
}

func (p *Init) ioConfig() stdio.Config {
	return stdio.Config{
		Names: p.names, UID: int(p.config.IoUID), GID: int(p.config.IoGID),
		Container: p.id, Namespace: p.env.Namespace, Monitor: p.env.Monitor,
		NewConsoleSocket: func() (*runc.Socket, error) { return newConsoleSocket(p.config.Bundle) },
		Limits:           p.env.Streams, Gate: p.env.Streaming,
	}
}

// create runs "runc create".
func (p *Init) create(ctx context.Context, call CreateCall) error {
	return p.runtime.Create(ctx, p.id, p.config.Bundle, call)
}

// restore runs "runc restore".
func (p *Init) restore(ctx context.Context, call CreateCall) error {
	work := p.config.CriuWorkPath
	if work == "" {
		work = p.env.WorkDir
	}
	return p.runtime.Restore(ctx, p.id, p.config.Bundle, RestoreCall{
		CreateCall: call, ImagePath: p.config.Checkpoint, WorkPath: work,
	})
}

// launch makes the runtime start the process; see the function of that name.
func (p *Init) launch(ctx context.Context, io *stdio.Streams, run func(context.Context, CreateCall) error) (*reaper.Child, error) {
	call := CreateCall{
		IO:           io,
		PidFile:      filepath.Join(p.config.Bundle, "init.pid"),
		NoPivot:      p.config.NoPivotRoot,
		NoNewKeyring: p.config.NoNewKeyring,
		Console:      io.ConsoleSocket(),
	}
	return launch(ctx, p.env.Reaper, io, call.PidFile, p, func(ctx context.Context) error { return run(ctx, call) })
}

// launch runs start with a reaper's ticket open, waits for the console if there
// is a terminal, and claims the process whose pid start has left in pidFile.
// The process becomes owner's only when nothing can fail any more: an exit that
// reaches subscribers with an owner is that of a process that was started. If
// both child and error are returned, the child may be alive, and the caller
// must kill it.
func launch(ctx context.Context, r *reaper.Reaper, io *stdio.Streams, pidFile string, owner any, start func(context.Context) error) (*reaper.Child, error) {
	if err := clearPidFile(pidFile); err != nil {
		return nil, err
	}
	ticket := r.Begin()
	defer ticket.Close()
	defer io.RuntimeReturned()
	startErr := start(ctx)
	if neverRan(startErr) {
		return nil, startErr
	}
	pid, since, err := readPidFile(ctx, pidFile)
	if err != nil {
		return failedLaunch(findStray(ctx, ticket, io), firstError(startErr, err))
	}
	if startErr == nil {
		startErr = io.AwaitConsole(ctx)
	}
	if startErr != nil {
		owner = nil
	}
	child, err := ticket.Claim(pid, since, owner)
	if err != nil {
		return failedLaunch(findStray(ctx, ticket, io), firstError(startErr, internalf("the runtime's pid file: %w", err)))
	}
	return failedLaunch(child, startErr)
}

// failedLaunch adds to the error of a start, if there is one, that the process
// runs, or has run, before it is killed.
func failedLaunch(child *reaper.Child, err error) (*reaper.Child, error) {
	if child != nil && err != nil {
		err = fmt.Errorf("%w (its process %d had been started and was killed)", err, child.Pid())
	}
	return child, err
}

// firstError returns the first of errs that is not nil, or nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// undoCreate removes what a failed Create may have left. A container that
// existed before, which may be why it failed, is left alone.
func (p *Init) undoCreate(ctx context.Context, child *reaper.Child, existed bool) error {
	var err error
	if !existed && (child != nil || p.runtime.Exists(p.id)) {
		err = insist(ctx, func(ctx context.Context) error { return p.runtime.Delete(ctx, p.id, true) })
	}
	if child != nil { // started by this call, whatever was there before
		p.env.killAndWait(child)
	}
	return err
}

// killAndWait ends a process without an owner. It gives up on one that does not die.
func (e *Env) killAndWait(c *reaper.Child) {
	_ = c.Signal(unix.SIGKILL) // it may be dead already
	timer := time.NewTimer(e.Limits.Exit)
	defer timer.Stop()
	select {
	case <-c.Done():
	case <-timer.C:
	}
}

// Start runs the container's process, or restores it from its checkpoint. A failed
// restore leaves neither a process nor a container in the runtime; Delete cleans up
// the rest, see Absent.
func (p *Init) Start(ctx context.Context) error {
	if err := p.ask(WantStart); err != nil {
		return err
	}
	if p.config.Checkpoint == "" {
		if err := p.runtime.Start(ctx, p.id); err != nil {
			return err
		}
		return p.apply(DidStart)
	}
	io, err := p.openStreams()
	if err != nil {
		return err // it can be started again
	}
	if err := p.makeProcess(ctx, io, p.restore); err != nil {
		return errors.Join(err, p.apply(DidExit)) // it cannot be started again
	}
	return p.apply(DidStart)
}

// Kill signals init, or if all is true every process in the container. It waits
// for no verb: whatever hangs, a container can be killed. Its errors are
// InvalidArgument for a signal that does not exist, FailedPrecondition before
// there is a process, NotFound when it has ended, and DeadlineExceeded if the
// runtime does not answer within Limits.Kill and the process cannot be
// signalled either.
func (p *Init) Kill(ctx context.Context, sig uint32, all bool) error {
	signal, child, err := p.target(sig)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.env.Limits.Kill)
	defer cancel()
	err = p.runtime.Kill(ctx, p.id, int(signal), all)
	if err != nil && (signal == unix.SIGKILL || neverRan(err) || errors.Is(err, context.DeadlineExceeded)) {
		// The runtime hangs, fails, or is gone; the process is the shim's child
		// all the same.
		if child.Signal(signal) == nil {
			return nil
		}
		return killError(err)
	}
	if err == nil && all && signal != unix.SIGKILL && p.runtime.IgnoresKillAll(ctx) {
		err = p.signalOthers(ctx, signal)
	}
	return killError(err)
}

// signalOthers signals every process of the container but init, for a runtime
// whose "kill --all" does not. The pids are a snapshot, and need not be children of
// the shim: a recycled pid may be signalled, as with runc itself.
func (p *Init) signalOthers(ctx context.Context, sig unix.Signal) error {
	pids, err := p.runtime.Ps(ctx, p.id)
	if err != nil {
		return err
	}
	init := p.Child().Pid()
	for _, pid := range pids {
		if pid != init && pid > 1 {
			_ = unix.Kill(pid, sig) // it may be gone by now
		}
	}
	return nil
}

// Pids lists the container's processes, as the runtime sees them.
func (p *Init) Pids(ctx context.Context) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, p.env.Limits.Kill)
	defer cancel()
	return p.runtime.Ps(ctx, p.id)
}

// Update changes the container's resources.
func (p *Init) Update(ctx context.Context, r *specs.LinuxResources) error {
	if err := p.ask(WantUpdate); err != nil {
		return err
	}
	return p.runtime.Update(ctx, p.id, r)
}

// Absent reports whether a restore has failed: there is no process, and there
// will be none, but Delete has streams and mounts to clean up. State reports it as stopped:
// a client that State answers with NotFound never sends its Delete.
func (p *Init) Absent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase == Stopped && p.child == nil
}

// unrestored reports whether the process is to come from a checkpoint, by Start.
func (p *Init) unrestored() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config.Checkpoint != "" && p.child == nil && p.phase == Created
}

// CheckExec returns nil if an exec may be added now.
func (p *Init) CheckExec() error {
	if p.unrestored() {
		return fmt.Errorf("cannot exec in a created state: %w", errdefs.ErrFailedPrecondition)
	}
	return p.ask(WantExec)
}

// warn logs an error for which there is no caller.
func (p *process) warn(err error, msg string) {
	logrus.WithError(err).WithField("id", p.id).Warn(msg)
}
