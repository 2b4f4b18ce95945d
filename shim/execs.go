// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"sync"

	"containerd-shim/guard"
	"containerd-shim/proc"
	"containerd-shim/reaper"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// tenant is an exec from the beginning of its start to its published exit.
type tenant struct {
	// settled is closed when the exit is queued, or the start has failed.
	settled chan struct{}

	mu sync.Mutex
	// +checklocks:mu
	child *reaper.Child // nil while the runtime is at work
}

func (t *tenant) kill() {
	t.mu.Lock()
	c := t.child
	t.mu.Unlock()
	if c != nil {
		_ = c.Signal(unix.SIGKILL) // it may be dead
	}
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

func (s *Supervisor) startExec(ctx context.Context, p *proc.Exec) error {
	t := &tenant{settled: make(chan struct{})}
	s.mu.Lock()
	if s.dying {
		s.mu.Unlock()
		return errContainerDead()
	}
	s.tenants[t] = struct{}{}
	s.mu.Unlock()
	return p.Start(ctx, proc.StartHooks{
		Started: func(c *reaper.Child) error {
			t.mu.Lock()
			t.child = c
			t.mu.Unlock()
			s.mu.Lock()
			dying := s.dying
			s.mu.Unlock()
			if dying {
				return errContainerDead()
			}
			s.watch(c)
			guard.Go("watch an exec", func() { s.watchExec(p, t, c) })
			return nil
		},
		Failed: func() { s.settle(t) },
	})
}

func errContainerDead() error {
	return fmt.Errorf("cannot exec in a stopped state: %w", errdefs.ErrFailedPrecondition)
}

// settle ends a tenancy.
func (s *Supervisor) settle(t *tenant) {
	s.mu.Lock()
	delete(s.tenants, t)
	s.mu.Unlock()
	close(t.settled)
}

// lastDays stops new execs and returns those that have not ended. One that is
// on its way is refused when it arrives: tenant.child is set before dying is
// looked at, so it is either killed here or there.
func (s *Supervisor) lastDays() []*tenant {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dying = true
	all := make([]*tenant, 0, len(s.tenants))
	for t := range s.tenants {
		all = append(all, t)
	}
	return all
}

// DeleteExec forgets an exec.
func (s *Supervisor) DeleteExec(ctx context.Context, id string) (proc.Snapshot, error) {
	if id == s.containerID() {
		return proc.Snapshot{}, fmt.Errorf("cannot delete init process with DeleteProcess: %w", errdefs.ErrInvalidArgument)
	}
	p, err := s.exec(id)
	if err != nil {
		return proc.Snapshot{}, err
	}
	return p.Delete(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.execs[id] == p {
			delete(s.execs, id)
			delete(s.replies, id)
		}
	})
}
