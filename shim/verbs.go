// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"

	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/proc"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A verb runs in a goroutine of its own, under a context of the shim's: a
// client that goes away must not leave half a container behind. The caller's
// context bounds only how long the caller waits. detach and perform are the only
// places where the two are separated.

// detach runs fn with the context run, and waits for it until caller ends.
// Goroutines that fn starts inherit the caller's profiling labels.
func (s *Supervisor) detach(caller, run context.Context, fn func(context.Context) error) error {
	result := make(chan error, 1) // sent to once; nobody may be left to receive
	s.working.Enter()             // not in the goroutine: what is about to begin counts as well
	go func() {
		defer s.working.Leave()
		result <- guard.Call("operation", func() error { return fn(run) })
	}()
	select {
	case err := <-result:
		return err
	case <-caller.Done():
		return fmt.Errorf("gave up waiting, the operation goes on: %w", caller.Err())
	}
}

// perform runs fn, a verb of p, once the verbs before it have ended. If the caller
// gives up before that, nothing was changed.
func (s *Supervisor) perform(caller, run context.Context, p process, fn func(context.Context) error) error {
	if err := p.Lock(caller); err != nil {
		return err
	}
	return s.detach(caller, run, func(ctx context.Context) error {
		defer p.Unlock()
		return fn(ctx)
	})
}

// onContainer runs a verb of the container that must not outlast it.
func (s *Supervisor) onContainer(ctx context.Context, verb func(*proc.Init, context.Context) error) error {
	init, err := s.container()
	if err != nil {
		return err
	}
	return s.perform(ctx, s.alive, init, func(ctx context.Context) error { return verb(init, ctx) })
}

// Pause freezes the container.
func (s *Supervisor) Pause(ctx context.Context) error {
	return s.onContainer(ctx, (*proc.Init).Pause)
}

// Resume thaws it.
func (s *Supervisor) Resume(ctx context.Context) error {
	return s.onContainer(ctx, (*proc.Init).Resume)
}

// Update changes its resources.
func (s *Supervisor) Update(ctx context.Context, r *specs.LinuxResources) error {
	return s.onContainer(ctx, func(p *proc.Init, ctx context.Context) error { return p.Update(ctx, r) })
}

// Checkpoint writes an image of it. The container's death may be the last step of
// a checkpoint, so it gets lingerTime to clean up.
func (s *Supervisor) Checkpoint(ctx context.Context, o proc.CheckpointOptions) error {
	init, err := s.container()
	if err != nil {
		return err
	}
	return s.perform(ctx, s.lingering, init, func(ctx context.Context) error { return init.Checkpoint(ctx, o) })
}

// Kill signals an exec, or the container, which an empty id also means. While
// the runtime is starting the process, Kill waits for it: a client that is told
// that there is no process would take it for dead.
func (s *Supervisor) Kill(ctx context.Context, id string, sig uint32, all bool) error {
	init, err := s.container()
	if err != nil {
		return err
	}
	if id == "" || id == init.ID() {
		if init.Child() == nil {
			if err := s.awaitStart(ctx, init, sig == uint32(unix.SIGKILL)); err != nil {
				return err
			}
		}
		if init.Absent() {
			return errNoProcess(init.ID())
		}
		return s.detach(ctx, s.ctx, func(ctx context.Context) error { return init.Kill(ctx, sig, all) })
	}
	p, err := s.exec(id)
	if err != nil {
		return err
	}
	if err := s.awaitStart(ctx, p, false); err != nil {
		return err
	}
	return p.Kill(sig)
}

// awaitStart waits for the start of p, if one is underway. With kill it ends the
// start first, because restoring a container may take hours.
func (s *Supervisor) awaitStart(ctx context.Context, p process, kill bool) error {
	st := s.exits.starting(p)
	if st == nil {
		return nil
	}
	if kill {
		st.kill(errKilled())
	}
	select {
	case <-st.returned:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the start of process %s: %w", p.ID(), ctx.Err())
	}
}

// Pids lists the container's processes, with the ids of those that the shim
// has started.
func (s *Supervisor) Pids(ctx context.Context) (pids []int, names map[int]string, err error) {
	init, err := s.container()
	if err != nil {
		return nil, nil, err
	}
	found := make(chan []int, 1) // sent to once; the caller may be gone
	err = s.detach(ctx, s.ctx, func(ctx context.Context) error {
		pids, err := init.Pids(ctx)
		found <- pids
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return <-found, s.pidNames(), nil
}

// pidNames maps the pids of the living processes that the shim started to
// their ids.
func (s *Supervisor) pidNames() map[int]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make(map[int]string, 1+len(s.execs))
	for id, p := range s.execs {
		if snap := p.Snapshot(); snap.Pid != 0 && snap.Phase < proc.Stopped {
			names[snap.Pid] = id
		}
	}
	if s.init != nil {
		names[s.init.Snapshot().Pid] = s.id
	}
	return names
}

// Start runs the container's process or an exec, and returns its pid.
func (s *Supervisor) Start(ctx context.Context, id string) (int, error) {
	p, err := s.find(id)
	if err != nil {
		return 0, err
	}
	if begun := s.begunBefore(p); begun != nil {
		if err = begun.wait(ctx); err != nil {
			s.exits.settle(s.exits.starting(p))
		}
	} else {
		err = s.start(ctx, p)
	}
	return p.Snapshot().Pid, err
}

// start runs the verb that makes p's process, and waits for it until ctx ends.
func (s *Supervisor) start(ctx context.Context, p process) error {
	if err := p.Lock(ctx); err != nil {
		return err
	}
	if err := p.CheckStart(); err != nil { // before anything is begun
		p.Unlock()
		return err
	}
	_, own := p.(*proc.Init)
	run, kill := context.WithCancelCause(s.alive)
	st := s.exits.begin(p, own, kill)
	if st == nil {
		p.Unlock()
		kill(nil)
		return errContainerDead()
	}
	// From here on a Kill waits for the start.
	admitted, err := p.AdmitStart(ctx)
	if err != nil {
		s.exits.ended(st, noProcess)
		p.Unlock()
		kill(nil)
		return err
	}
	err = s.detach(ctx, run, func(ctx context.Context) error {
		defer kill(nil)
		defer p.Unlock()
		defer admitted()
		err := guard.Call("start", func() error { return p.Start(ctx) })
		if s.exits.ended(st, outcomeOf(p, err)) || err != nil {
			return err
		}
		s.killLate(p)
		return errContainerDead()
	})
	if err != nil {
		s.exits.settle(st)
	}
	return err
}

// outcomeOf returns what a start that has returned err has left behind.
func outcomeOf(p process, err error) outcome {
	child := p.Child()
	if err != nil || child == nil { // nil if a checkpoint was created, to be restored by Start
		return noProcess
	}
	select {
	case <-child.Done():
		return deadProcess
	default:
		return aliveProcess
	}
}

func errKilled() error {
	return fmt.Errorf("killed by the client: %w", errdefs.ErrFailedPrecondition)
}

func errContainerDead() error {
	return fmt.Errorf("cannot exec in a stopped state: %w", errdefs.ErrFailedPrecondition)
}

// Exec adds a process that Start will start.
func (s *Supervisor) Exec(id string, stdio proc.Stdio, spec []byte) error {
	init, err := s.container()
	if err != nil {
		return err
	}
	if err := init.CheckExec(); err != nil {
		return err
	}
	p, err := proc.NewExec(init, id, stdio, spec)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.execs[id]; taken || id == s.id {
		return fmt.Errorf("id %s: %w", id, errdefs.ErrAlreadyExists)
	}
	s.execs[id] = p
	return nil
}

// DeleteExec forgets an exec and returns its final state. A start of it that is
// underway comes first.
func (s *Supervisor) DeleteExec(ctx context.Context, id string) (proc.Snapshot, error) {
	if id == s.containerID() {
		return proc.Snapshot{}, fmt.Errorf("cannot delete init process with DeleteProcess: %w", errdefs.ErrInvalidArgument)
	}
	p, err := s.exec(id)
	if err != nil {
		return proc.Snapshot{}, err
	}
	err = s.perform(ctx, s.ctx, p, func(ctx context.Context) error {
		if err := p.Delete(ctx); err != nil {
			return err
		}
		s.exits.forget(p)
		s.forgetExec(id, p.Streams())
		s.conns.answerHere(id)
		return nil
	})
	return p.Snapshot(), err
}

// forgetExec removes an exec. Its streams may live on.
func (s *Supervisor) forgetExec(id string, io proc.Streams) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.execs, id)
	delete(s.begun, id)
	if io != nil {
		s.leaving.add(io)
	}
}
