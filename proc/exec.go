// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Exec is an additional process in a container.
type Exec struct {
	process
	init *Init
	spec specs.Process
}

// NewExec returns a process that Start has yet to start. rawSpec is an OCI
// process in JSON; names.Terminal overrides what it says about a terminal.
func NewExec(init *Init, id string, names Stdio, rawSpec []byte) (*Exec, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	spec, err := parseExecSpec(rawSpec, names.Terminal)
	if err != nil {
		return nil, err
	}
	return &Exec{process: newProcess(init.env, id, names), init: init, spec: spec}, nil
}

// AdmitStart waits until one more exec of the container may be started.
func (p *Exec) AdmitStart(ctx context.Context) (started func(), err error) {
	started, err = p.init.starts.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for other starts: %w", err)
	}
	return started, nil
}

// Start runs the process. A start that fails leaves nothing behind and may be
// tried again; Wait has then returned an exit with an unknown status.
func (p *Exec) Start(ctx context.Context) error {
	if err := p.ask(WantStart); err != nil {
		return err
	}
	if len(p.spec.Args) == 0 { // see AdoptExec
		return internalf("the process of exec %s was lost when the shim was replaced", p.id)
	}
	p.newAttempt()
	if err := p.start(ctx); err != nil {
		p.endAttempt()
		return err
	}
	return nil
}

func (p *Exec) start(ctx context.Context) error {
	io, err := stdio.Open(p.ioConfig())
	if err != nil {
		return err
	}
	p.setIO(io) // a CloseIO from here on reaches io; one before was passed on
	var child *reaper.Child
	if err = io.HoldInput(); err == nil {
		child, err = p.launch(ctx, io)
	}
	if err != nil {
		if child != nil {
			p.env.killAndWait(child)
		}
		p.dropIO()
		io.Abort()
		_ = clearPidFile(p.pidFile()) // the next start tries again
		return err
	}
	io.Started()
	p.adopt(child)
	return p.apply(DidStart)
}

func (p *Exec) ioConfig() stdio.Config {
	c := p.init.ioConfig()
	c.Names = p.names
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Size = p.size
	return c
}

// launch runs "runc exec".
func (p *Exec) launch(ctx context.Context, io *stdio.Streams) (*reaper.Child, error) {
	spec := p.spec
	if size := io.Size(); size != nil && spec.ConsoleSize == nil {
		// Set by the runtime before the process runs: it never sees another.
		spec.ConsoleSize = &specs.Box{Width: uint(size.Width), Height: uint(size.Height)}
	}
	call := ExecCall{IO: io, PidFile: p.pidFile(), Console: io.ConsoleSocket()}
	return launch(ctx, p.env.Reaper, io, call.PidFile, p, func(ctx context.Context) error {
		return p.init.runtime.Exec(ctx, p.init.id, spec, call)
	})
}

func (p *Exec) pidFile() string {
	return filepath.Join(p.init.config.Bundle, execPidFile(p.id))
}

// Kill signals the process, and never another one that may have got its pid since.
// It runs nothing and waits for nothing. Its errors are
// InvalidArgument for a signal that does not exist, FailedPrecondition before
// there is a process, and NotFound when it has ended.
func (p *Exec) Kill(sig uint32) error {
	signal, child, err := p.target(sig)
	if err != nil {
		return err
	}
	switch err := child.Signal(signal); {
	case errors.Is(err, os.ErrProcessDone):
		return errFinished()
	case err != nil:
		return internalf("exec kill error: %w", err)
	}
	return nil
}

// Resize is process.Resize, but an exec that has stopped has no terminal left.
func (p *Exec) Resize(width, height uint32) error {
	if p.Snapshot().Phase == Stopped {
		return fmt.Errorf("cannot resize a stopped container: %w", errdefs.ErrFailedPrecondition)
	}
	return p.process.Resize(width, height)
}

// Delete forgets the process. Its output is still copied as long as there is any.
func (p *Exec) Delete(context.Context) error {
	if err := p.ask(WantDelete); err != nil {
		return err
	}
	p.mu.Lock()
	io := p.io
	p.mu.Unlock()
	if io != nil {
		io.AwaitOutput(p.env.Streams.Drain)
		io.ProcessDeleted()
	}
	if err := clearPidFile(p.pidFile()); err != nil {
		p.warn(err, "pid file of a deleted exec")
	}
	p.endAttempt() // of one that was never started
	return p.apply(DidDelete)
}
