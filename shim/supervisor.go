// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/proc"
	"containerd-shim.v1/reaper"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Supervisor knows the container of this shim and its execs.
type Supervisor struct {
	env    *proc.Env
	outbox *Outbox
	exits  *exits
	conns  *connections
	// working is held by every goroutine that may run the runtime.
	working gate.Gate
	// upgrades is received from by whoever carries them out, see Upgrades;
	// unbuffered, never closed.
	upgrades chan *Upgrade
	// upgraded is the program of the request that has led to this one, and is read
	// again; nil once it is answered, or if there was none.
	upgraded atomic.Pointer[string]
	// exchanging is the program that an Upgrade asks for while its Do runs, in whose
	// goroutine Save runs, too.
	exchanging string
	// reaperPaused is used by Freeze and Thaw alone.
	reaperPaused bool
	// ctx ends with the shim.
	ctx context.Context
	// alive ends Limits.Reply after the container's death, and with it the verbs
	// that must not outlast it.
	alive    context.Context
	endAlive context.CancelCauseFunc
	// lingering ends lingerTime after the death, and with it a checkpoint.
	lingering    context.Context
	endLingering context.CancelCauseFunc

	mu sync.Mutex
	// +checklocks:mu
	id string // of the container, from Create on
	// +checklocks:mu
	creating chan struct{} // closed when the Create that is under way ends; nil if none is
	// +checklocks:mu
	init *proc.Init // nil until Create has succeeded
	// +checklocks:mu
	deleted *proc.Snapshot // the answer to Delete, once it succeeded
	// +checklocks:mu
	execs map[string]*proc.Exec
	// +checklocks:mu
	leaving leaving // the streams of deleted execs
	// +checklocks:mu
	begun map[string]*begun // starts that the previous program had begun, by process id
}

// lingerTime is how long a checkpoint may go on after its container has died: all
// that is left for it to do is clean up.
const lingerTime = 30 * time.Second

// NewSupervisor returns the supervisor of a container that Create has yet to
// make. Verbs run under ctx, which ends with the shim; exits go to outbox while
// Run runs.
func NewSupervisor(ctx context.Context, env *proc.Env, outbox *Outbox, l Limits) *Supervisor {
	s := &Supervisor{
		env: env, outbox: outbox, ctx: ctx, conns: newConnections(),
		upgrades: make(chan *Upgrade), execs: make(map[string]*proc.Exec),
	}
	if env.Streaming == nil {
		env.Streaming = new(gate.Gate)
	}
	s.alive, s.endAlive = context.WithCancelCause(ctx)
	s.lingering, s.endLingering = context.WithCancelCause(ctx)
	s.exits = newExits(l, s.record, func(id string, e reaper.Exit) { outbox.Put(s.exitEvent(id, e)) })
	return s
}

// Run takes exits from the reaper until the shim ends. It must run before
// Create is called.
func (s *Supervisor) Run(exits *reaper.Subscription) { s.exits.run(s.ctx, exits) }

// process is what Init and Exec have in common.
type process interface {
	ID() string
	Lock(ctx context.Context) error
	Unlock()
	CheckStart() error
	AdmitStart(ctx context.Context) (started func(), err error)
	Start(ctx context.Context) error
	Snapshot() proc.Snapshot
	Wait(ctx context.Context) (proc.Exit, error)
	Child() *reaper.Child
	Resize(width, height uint32) error
	CloseStdin()
}

// record makes an exit visible. It runs in the goroutine that takes exits.
func (s *Supervisor) record(o owner, e reaper.Exit) {
	switch p := o.(type) {
	case *proc.Exec:
		p.RecordExit(e)
	case *proc.Init:
		was := p.RecordExit(e)
		living := s.exits.close()
		s.clearUp(p, living, was == proc.Paused || was == proc.Pausing)
	}
}

// clearUp ends what the death of the container leaves.
func (s *Supervisor) clearUp(p *proc.Init, living []owner, wasPaused bool) {
	time.AfterFunc(s.exits.limits.Reply, func() { s.endAlive(errContainerDied()) })
	time.AfterFunc(lingerTime, func() { s.endLingering(errContainerDied()) })
	guard.Go("kill what is left", func() {
		s.working.Enter()
		defer s.working.Leave()
		defer s.exits.clear()
		s.killRest(p, living, wasPaused)
	})
}

// killRest kills what is left in the container whose first process was p.
func (s *Supervisor) killRest(p *proc.Init, living []owner, wasPaused bool) {
	if p.SharesPids() {
		for _, o := range living {
			if e, ok := o.(*proc.Exec); ok {
				_ = e.Kill(uint32(unix.SIGKILL)) // it may be dead, or not there yet: then start kills it
			}
		}
	}
	p.KillRest(s.ctx, wasPaused)
}

// killLate kills an exec that arrived in a dead container.
func (s *Supervisor) killLate(p process) {
	if child := p.Child(); child != nil {
		_ = child.Signal(unix.SIGKILL) // it may be dead
	}
}

func errContainerDied() error {
	return fmt.Errorf("the container has died: %w", errdefs.ErrFailedPrecondition)
}

// errNoContainer is the answer to whatever needs a container before Create or
// after Delete. containerd since 1.6.25 and 1.7.9 reads this text on Delete.
func errNoContainer() error {
	return fmt.Errorf("container must be created: %w", errdefs.ErrFailedPrecondition)
}

// errNoProcess is the answer for an id that no process has.
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

// find returns the init or exec with this id.
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

// State returns what is known of a process, from memory. The container's is
// returned after Delete, too: a daemon whose Delete was not answered in time must
// find the shim, to ask again.
func (s *Supervisor) State(id string) (snap proc.Snapshot, bundle string, err error) {
	s.mu.Lock()
	init := s.init
	if s.deleted != nil && id == s.id {
		snap = *s.deleted
		s.mu.Unlock()
		return snap, init.Bundle(), nil
	}
	s.mu.Unlock()
	p, err := s.find(id)
	if err != nil {
		return snap, "", err
	}
	snap = p.Snapshot()
	// A paused container pauses its execs.
	if of := init.Snapshot().Phase; snap.Phase < proc.Stopped && (of == proc.Pausing || of == proc.Paused) {
		snap.Phase = of
	}
	return snap, init.Bundle(), nil
}

// Create makes the container and returns the pid of its process. If the caller
// gives up meanwhile, the container is made all the same, for the caller to find
// and delete.
func (s *Supervisor) Create(ctx context.Context, c proc.InitConfig) (int, error) {
	s.mu.Lock()
	if s.init != nil || s.creating != nil || s.exits.isClosing() {
		id := s.id
		s.mu.Unlock()
		return 0, fmt.Errorf("container %s: this shim has one already: %w", id, errdefs.ErrAlreadyExists)
	}
	created := make(chan struct{})
	s.creating, s.id = created, c.ID
	s.mu.Unlock()

	p := proc.NewInit(s.env, c)
	run, kill := context.WithCancelCause(s.ctx)
	st := s.exits.begin(p, true, kill)
	err := s.detach(ctx, run, func(ctx context.Context) error {
		defer kill(nil)
		defer close(created)
		err := guard.Call("create", func() error { return p.Create(ctx) })
		s.exits.ended(st, outcomeOf(p, err))
		s.created(p, err)
		return err
	})
	if err != nil {
		s.exits.settle(st)
		return 0, err
	}
	return p.Snapshot().Pid, nil
}

// created ends the Create that is under way; p becomes the container if err is nil.
func (s *Supervisor) created(p *proc.Init, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.creating = nil
	if err == nil {
		s.init = p
	}
}
