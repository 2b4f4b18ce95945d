// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"time"

	"containerd-shim.v1/proc"
)

// flushWait bounds how long Delete waits for the daemon to take the
// container's exit, since the daemon kills the shim after Delete.
const flushWait = 2 * time.Second

// Delete removes the container and returns its final state. A repeated Delete
// gets the same answer, because a daemon whose first call timed out still needs
// the exit status.
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
		s.exits.settle(s.exits.starting(init))
		select {
		case <-s.exits.over: // bounded, see Limits
		case <-ctx.Done():
			return proc.Snapshot{}, fmt.Errorf("wait for the container's last processes: %w", ctx.Err())
		}
	}
	err := s.perform(ctx, s.ctx, init, func(ctx context.Context) error {
		if err := init.Delete(ctx); err != nil {
			return err
		}
		s.setDeleted(init.Snapshot())
		s.conns.answerHere(init.ID())
		return nil
	})
	s.mu.Lock()
	deleted = s.deleted
	s.mu.Unlock()
	if deleted == nil {
		return init.Snapshot(), err
	}
	// It was deleted, by this call or by an earlier one.
	if init.Child() != nil {
		s.flush(ctx)
	}
	return *deleted, nil
}

func (s *Supervisor) setDeleted(snap proc.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted = &snap
}

// flush gives the daemon the container's exit before the shim ends. It waits for
// that exit to be sent, and then, for flushWait, for the daemon to take it.
func (s *Supervisor) flush(ctx context.Context) {
	s.exits.settleAll()
	limit := time.NewTimer(s.exits.limits.Reply + flushWait) // for a process that does not die
	defer limit.Stop()
	select {
	case <-s.exits.over:
	case <-limit.C:
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	s.outbox.Flush(ctx) // bounded: a daemon that takes no events still gets its answer
}

// Shutdown kills and removes the container, if there is one, and gives the
// daemon the events that it has not taken yet. It returns when ctx ends at the
// latest.
func (s *Supervisor) Shutdown(ctx context.Context) error {
	s.exits.close()
	s.mu.Lock()
	creating := s.creating
	s.mu.Unlock()
	if creating != nil { // else its container would stay behind
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
	err = s.detach(ctx, s.ctx, init.Destroy)
	if init.Child() != nil {
		s.flush(ctx)
	}
	return err
}
