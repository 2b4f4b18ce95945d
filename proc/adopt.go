// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"

	"github.com/containerd/containerd/mount"
)

// Adoption is what is needed to take over the processes of a replaced program. The
// Reaper is paused meanwhile.
type Adoption struct {
	// Ticket has been open since before anything was reaped.
	Ticket *reaper.Ticket
	// Lost is called for a process of which nothing is known but that it has
	// ended; it sees to it that the exit is recorded.
	Lost func(owner any, e reaper.Exit)
}

// claim returns the child with this pid. If there is none, the process has ended
// with a status that nobody knows.
func (a Adoption) claim(pid int, owner any) (c *reaper.Child, found bool) {
	if pid != 0 {
		if c, err := a.Ticket.Claim(pid, time.Time{}, owner); err == nil {
			return c, true
		}
	}
	return reaper.NewDead(reaper.Exit{Pid: pid, Status: reaper.UnknownStatus, At: time.Now()}), false
}

// AdoptInit returns the container that st describes. Its rootfs is mounted already,
// and its process, if it is alive, is a child of this process. ctx bounds the wait for the
// memory and the descriptors that its streams take.
func AdoptInit(ctx context.Context, env *Env, st *state.Container, a Adoption) *Init {
	c := InitConfig{
		ID: st.ID, Bundle: st.Bundle, Runtime: st.Runtime, Checkpoint: st.Checkpoint, Stdio: namesOf(&st.Process),
		NoPivotRoot: st.NoPivotRoot, NoNewKeyring: st.NoNewKeyring,
		IoUID: st.IoUID, IoGID: st.IoGID, CriuWorkPath: st.CriuWorkPath,
	}
	if c.Bundle == "" {
		c.Bundle = env.Bundle
	}
	for _, m := range st.Rootfs {
		c.Rootfs = append(c.Rootfs, mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	p := NewInit(env, c)
	p.rootfs.resolve(ctx)
	p.sharedPids = sharesPidNamespace(c.Bundle)
	p.diedUnseen = st.Phase == state.Stopped
	p.rebuild(ctx, &st.Process, p.ioConfig(), a, p)
	return p
}

// AdoptExec is AdoptInit for an exec of init.
func AdoptExec(ctx context.Context, init *Init, st *state.Exec, a Adoption) *Exec {
	p := &Exec{process: newProcess(init.env, st.ID, namesOf(&st.Process)), init: init}
	if st.Phase == state.Created {
		spec, err := parseExecSpec(st.Spec, st.Terminal)
		if err != nil {
			p.warn(err, "the spec of an exec is lost")
		}
		p.spec = spec
	}
	c := init.ioConfig()
	c.Names = p.names
	p.rebuild(ctx, &st.Process, c, a, p)
	return p
}

// AdoptStreams returns the streams of a process that was deleted.
func AdoptStreams(ctx context.Context, env *Env, st *state.Streams, a Adoption) Streams {
	c := stdio.Config{Limits: env.Streams, Gate: env.Streaming}
	return stdio.Adopt(ctx, c, st, func(pid int) *reaper.Child { c, _ := a.claim(pid, nil); return c })
}

func namesOf(st *state.Process) Stdio {
	return Stdio{Stdin: st.Stdin, Stdout: st.Stdout, Stderr: st.Stderr, Terminal: st.Terminal}
}

// rebuild gives a new process the facts of st; owner is the Init or Exec that it
// is part of.
func (p *process) rebuild(ctx context.Context, st *state.Process, c stdio.Config, a Adoption, owner any) {
	var io *stdio.Streams
	if st.Size != nil {
		c.Size = &stdio.Size{Width: st.Size.Width, Height: st.Size.Height}
	}
	if st.Streams != nil {
		io = stdio.Adopt(ctx, c, st.Streams, func(pid int) *reaper.Child { c, _ := a.claim(pid, nil); return c })
	}
	if lost := p.rebuildFacts(st, c.Size, io, a, owner); lost {
		p.warn(reaper.ErrNotChild, "the exit of an adopted process is lost")
		a.Lost(owner, p.Child().Wait())
	}
	if io != nil && st.Exit != nil {
		io.ProcessExited()
	}
}

func (p *process) rebuildFacts(st *state.Process, size *stdio.Size, io *stdio.Streams, a Adoption, owner any) (lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for phase, name := range statePhases {
		if name == st.Phase && phase != Deleted {
			p.phase = phase
		}
	}
	p.pid, p.io, p.size, p.stdinEOF = st.Pid, io, size, st.StdinClosed
	if st.Exit != nil {
		p.endAttemptLocked(Exit{Status: st.Exit.Status, At: st.Exit.At})
		if st.Pid != 0 {
			p.child = reaper.NewDead(reaper.Exit{Pid: st.Pid, Status: st.Exit.Status, At: st.Exit.At, Owner: owner})
		}
		return false
	}
	if st.Pid == 0 {
		return false
	}
	found := false
	p.child, found = a.claim(st.Pid, owner)
	return !found
}

// ClaimRuntime returns the runtime that is at work for a start. If it is gone, it
// has returned.
func (a Adoption) ClaimRuntime(st *state.Start) *reaper.Child {
	c, _ := a.claim(st.Runtime, nil)
	return c
}

// FinishStart waits for the end of a start that the replaced program has begun. If
// it fails, or ctx ends first, it leaves neither the runtime nor a process behind. The
// process is locked meanwhile.
func (p *Exec) FinishStart(ctx context.Context, a Adoption, runtime *reaper.Child, pidFile string) error {
	if pidFile == "" {
		pidFile = p.pidFile()
	}
	err := p.env.await(ctx, runtime)
	if err == nil && p.Child() == nil {
		err = p.claimStarted(ctx, a, pidFile)
	}
	if err != nil {
		p.mu.Lock()
		io := p.io
		p.io = nil
		p.mu.Unlock()
		p.killStarted(ctx, a, pidFile, io)
		if io != nil {
			io.Abort()
		}
		p.endAttempt()
		return internalf("a start that began before the shim was replaced: %w", err)
	}
	return p.apply(DidStart)
}

// killStarted kills the process of a start that has failed: the one that is known, or
// that pidFile names, or that has the start's streams, which may be nil.
func (p *Exec) killStarted(ctx context.Context, a Adoption, pidFile string, io *stdio.Streams) {
	child := p.Child()
	if child == nil {
		if pid, since, err := readPidFile(ctx, pidFile); err == nil {
			child, _ = a.Ticket.Claim(pid, since, nil) // an error: it is no child, or another process
		}
	}
	if child == nil && io != nil {
		child = findStray(ctx, a.Ticket, io)
	}
	if child != nil {
		p.env.killAndWait(child)
	}
}

// claimStarted adopts the process whose pid a runtime has left in pidFile.
func (p *Exec) claimStarted(ctx context.Context, a Adoption, pidFile string) error {
	pid, since, err := readPidFile(ctx, pidFile)
	if err != nil {
		return err
	}
	child, err := a.Ticket.Claim(pid, since, p)
	if errors.Is(err, reaper.ErrNotChild) { // it ran, and was reaped
		child = reaper.NewDead(reaper.Exit{Pid: pid, Status: reaper.UnknownStatus, At: time.Now()})
		p.adopt(child)
		a.Lost(p, child.Wait())
		return nil
	}
	if err == nil {
		p.adopt(child)
	}
	return err
}

// FinishStart is Exec.FinishStart for the container's own process. The runtime tells
// whether it was started.
func (p *Init) FinishStart(ctx context.Context, _ Adoption, runtime *reaper.Child, _ string) error {
	if err := p.env.await(ctx, runtime); err != nil {
		return internalf("a start that began before the shim was replaced: %w", err)
	}
	if p.Snapshot().Phase == Stopped {
		return nil
	}
	var status string
	err := p.limited(ctx, func(ctx context.Context) (err error) { status, err = p.runtime.Status(ctx, p.id); return err })
	if err != nil {
		return err
	}
	if status == "created" {
		return internalf("a start that began before the shim was replaced has failed: the container is %s", status)
	}
	return p.apply(DidStart)
}

// await waits for the end of a runtime. When ctx or Limits.Start ends first, the runtime is
// killed, as Monitor.Run does with one of its own.
func (e *Env) await(ctx context.Context, runtime *reaper.Child) error {
	select {
	case <-runtime.Done(): // also if ctx has ended
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, e.Limits.Start)
	defer cancel()
	select {
	case <-runtime.Done():
		return nil
	case <-ctx.Done():
		e.killAndWait(runtime)
		return fmt.Errorf("wait for the runtime: %w", context.Cause(ctx))
	}
}

// resolve finds the rootfs that is mounted. Until ctx ends it waits for the memory that
// this takes: mountinfo knows nothing by the other name, and Delete would leave it mounted.
func (r *rootfs) resolve(ctx context.Context) {
	if path, err := filepath.Abs(r.path); err == nil {
		r.path = path
	}
	path, err := errclass.WhileExhausted(ctx, func() (string, error) { return filepath.EvalSymlinks(r.path) })
	if err == nil {
		r.path = path
	}
}
