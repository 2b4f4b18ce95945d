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
)

// Supervisor knows the container of this shim and its execs.
type Supervisor struct {
	env    *proc.Env
	outbox *Outbox
	// exitQueued is closed when the container's exit is in the outbox.
	exitQueued chan struct{}

	mu sync.Mutex
	// +checklocks:mu
	id string // of the container, from Create on
	// +checklocks:mu
	creating chan struct{} // closed when the Create that is under way ends, nil without one
	// +checklocks:mu
	init *proc.Init // nil until Create has succeeded
	// +checklocks:mu
	deleted *proc.Snapshot // the answer to Delete, once it succeeded
	// +checklocks:mu
	execs map[string]*proc.Exec
	// +checklocks:mu
	tenants map[*tenant]struct{} // execs that have begun and not ended
	// +checklocks:mu
	replies map[string]*reply // by process id, see reply
	// +checklocks:mu
	unplaced map[*reaper.Child]chan struct{} // see awaitEarlier
	// +checklocks:mu
	dying bool // init has exited, or the shim shall
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
			guard.Go("watch the container", func() { s.watchInit(p, child) })
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return p.Snapshot().Pid, nil
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
		err = p.Start(ctx, func(c *reaper.Child) { guard.Go("watch the container", func() { s.watchInit(p, c) }) })
	case *proc.Exec:
		err = s.startExec(ctx, p)
	}
	return p.Snapshot().Pid, err
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
