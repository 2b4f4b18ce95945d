// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"containerd-shim/proc"
	"containerd-shim/reaper"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// flushWait bounds how long Delete waits for the daemon to take the
// container's exit: after Delete the daemon kills the shim.
const flushWait = 2 * time.Second

// Supervisor knows the container of this shim and its execs.
type Supervisor struct {
	env    *proc.Env
	outbox *Outbox
	// exitQueued is closed when the container's exit is in the outbox.
	exitQueued chan struct{}

	mu       sync.Mutex
	id       string                          // guarded by mu; of the container, from Create on
	creating chan struct{}                   // guarded by mu; closed when the Create that is under way ends, nil without one
	init     *proc.Init                      // guarded by mu; nil until Create has succeeded
	deleted  *proc.Snapshot                  // guarded by mu; the answer to Delete, once it succeeded
	execs    map[string]*proc.Exec           // guarded by mu
	tenants  map[*tenant]struct{}            // guarded by mu; execs that have begun and not ended
	replies  map[string]*reply               // guarded by mu; by process id, see reply
	unplaced map[*reaper.Child]chan struct{} // guarded by mu; see place
	dying    bool                            // guarded by mu; init has exited, or the shim shall
}

// tenant is an exec from the beginning of its start to its published exit.
type tenant struct {
	// settled is closed when the exit is queued, or the start has failed.
	settled chan struct{}

	mu    sync.Mutex
	child *reaper.Child // guarded by mu; nil while the runtime is at work
}

func (t *tenant) kill() {
	t.mu.Lock()
	c := t.child
	t.mu.Unlock()
	if c != nil {
		_ = c.Signal(unix.SIGKILL) // it may be dead
	}
}

// NewSupervisor returns the supervisor of a container that Create has yet to
// make. Exits go to outbox.
func NewSupervisor(env *proc.Env, outbox *Outbox) *Supervisor {
	return &Supervisor{
		env: env, outbox: outbox, exitQueued: make(chan struct{}),
		execs: make(map[string]*proc.Exec), tenants: make(map[*tenant]struct{}),
		replies: make(map[string]*reply), unplaced: make(map[*reaper.Child]chan struct{}),
	}
}

// process is what Init and Exec have in common.
type process interface {
	Snapshot() proc.Snapshot
	Wait(ctx context.Context) (proc.Exit, error)
	Resize(width, height uint32) error
	CloseStdin()
}

// errNoContainer is the answer to whatever needs a container before there is
// one, or after. containerd since 1.6.25 and 1.7.9 reads this text on Delete.
func errNoContainer() error {
	return fmt.Errorf("container must be created: %w", errdefs.ErrFailedPrecondition)
}

// errNoProcess is the answer for an id that is nobody's.
func errNoProcess(id string) error {
	return fmt.Errorf("process %s does not exist: %w", id, errdefs.ErrNotFound)
}

func (s *Supervisor) containerID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// container returns the container, if there is one now.
func (s *Supervisor) container() (*proc.Init, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.init == nil || s.deleted != nil {
		return nil, errNoContainer()
	}
	return s.init, nil
}

// exec returns the exec with this id.
func (s *Supervisor) exec(id string) (*proc.Exec, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.execs[id]; ok {
		return p, nil
	}
	return nil, errNoProcess(id)
}

// find returns the container's init or an exec by id.
func (s *Supervisor) find(id string) (process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.init != nil && s.deleted == nil && id == s.id {
		return s.init, nil
	}
	if p, ok := s.execs[id]; ok {
		return p, nil
	}
	return nil, errNoProcess(id)
}

// Create makes the container. What it made stays if the caller goes away
// meanwhile; the caller may then find and delete it.
func (s *Supervisor) Create(ctx context.Context, c proc.InitConfig) (int, error) {
	s.mu.Lock()
	if s.init != nil || s.creating != nil || s.dying {
		id := s.id
		s.mu.Unlock()
		return 0, fmt.Errorf("container %s: this shim has one already: %w", id, errdefs.ErrAlreadyExists)
	}
	created := make(chan struct{})
	s.creating, s.id = created, c.ID
	s.mu.Unlock()

	defer s.beginReply(c.ID).done()
	p := proc.NewInit(s.env, c)
	err := s.env.Detach(ctx, func(ctx context.Context) error {
		err := p.Create(ctx)
		s.mu.Lock()
		s.creating = nil
		if err == nil {
			s.init = p
		}
		s.mu.Unlock()
		close(created)
		if child := p.Child(); err == nil && child != nil {
			go s.watchInit(p, child)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return p.Snapshot().Pid, nil
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

// Start runs the container's process or an exec, and returns its pid.
func (s *Supervisor) Start(ctx context.Context, id string) (int, error) {
	p, err := s.find(id)
	if err != nil {
		return 0, err
	}
	defer s.beginReply(id).done()
	switch p := p.(type) {
	case *proc.Init:
		err = p.Start(ctx, func(c *reaper.Child) { go s.watchInit(p, c) })
	case *proc.Exec:
		err = s.startExec(ctx, p)
	}
	return p.Snapshot().Pid, err
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
			go s.watchExec(p, t, c)
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

// Delete removes the container. Repeated, it repeats its answer: a daemon
// whose first call timed out must learn the exit status all the same.
func (s *Supervisor) Delete(ctx context.Context) (proc.Snapshot, error) {
	s.mu.Lock()
	init, deleted := s.init, s.deleted
	s.mu.Unlock()
	if deleted != nil {
		return *deleted, nil
	}
	if init == nil {
		return proc.Snapshot{}, errNoContainer()
	}
	if init.Snapshot().Phase == proc.Stopped && init.Child() != nil {
		select {
		case <-s.exitQueued: // bounded by lastExecWait and replyWait
		case <-ctx.Done():
			return proc.Snapshot{}, fmt.Errorf("wait for the container's last processes: %w", ctx.Err())
		}
	}
	snap, err := init.Delete(ctx, func(snap proc.Snapshot) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.deleted = &snap
	})
	s.mu.Lock()
	deleted = s.deleted
	s.mu.Unlock()
	if deleted != nil { // by us, or by another call that was before us at the gate
		snap, err = *deleted, nil
	}
	if err == nil && init.Child() != nil {
		s.flush(ctx)
	}
	return snap, err
}

// flush gives the daemon the container's exit before it may kill the shim.
func (s *Supervisor) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	select {
	case <-s.exitQueued:
		_ = s.outbox.Flushed(ctx) // a daemon that takes no events still gets its answer
	case <-ctx.Done():
	}
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

// Shutdown kills and removes the container, if there is one, and gives the
// daemon what it has not taken yet, within ctx.
func (s *Supervisor) Shutdown(ctx context.Context) error {
	s.lastDays()
	s.mu.Lock()
	creating := s.creating
	s.mu.Unlock()
	if creating != nil { // its container would stay behind
		select {
		case <-creating:
		case <-ctx.Done():
			return fmt.Errorf("wait for the container to be made: %w", ctx.Err())
		}
	}
	init, err := s.container()
	if err != nil {
		return nil // there is nothing to end
	}
	err = s.env.Detach(ctx, init.Destroy)
	if init.Child() != nil {
		s.flush(ctx)
	}
	return err
}
