// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"container/list"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotChild is returned by Claim for a pid that is no child of this process
// and of which no exit was seen: waiting for it would never end.
var ErrNotChild = errors.New("not a child of this process")

// ErrClaimed is returned by Claim for a pid that already has an owner.
var ErrClaimed = errors.New("already claimed")

// Ticket makes the Reaper keep unclaimed exits while one process is being
// started.
type Ticket struct {
	r   *Reaper
	seq uint64

	// +checklocks:r.mu
	at *list.Element // nil once closed
}

// Begin must be called before the process is started. The caller must Close
// the ticket once it has claimed the process, or knows that there is none.
func (r *Reaper) Begin() *Ticket {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	t := &Ticket{r: r, seq: r.seq}
	t.at = r.open.PushBack(t)
	return t
}

// Close lets go of the exits that were kept for this ticket. It may be called
// more than once.
func (t *Ticket) Close() {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if t.at == nil {
		return
	}
	t.r.open.Remove(t.at)
	t.at = nil
	oldest := t.r.seq + 1
	if front := t.r.open.Front(); front != nil {
		oldest = front.Value.(*Ticket).seq
	}
	t.r.kept.dropBefore(oldest)
}

// Claim returns the Child of pid, which was started since Begin. The child may
// be dead already; its exit is then in the Child. since is a moment at which
// the process was surely alive, such as the time of the pid file that its
// starter wrote; it tells the process apart from earlier and later owners of
// the same pid. It may be zero for a child that this process forked itself.
// owner comes back in the Exit that subscribers are told; it may be nil.
//
// Errors: ErrNotChild, ErrClaimed, or a closed ticket.
func (t *Ticket) Claim(pid int, since time.Time, owner any) (*Child, error) {
	r := t.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.at == nil {
		return nil, errors.New("claim with a closed ticket")
	}
	if pid <= 0 {
		return nil, fmt.Errorf("claim pid %d: %w", pid, ErrNotChild)
	}
	_, owned := r.claims[pid]
	// A child that is dead but not yet handed over counts as alive here: reapOne
	// hands over and reaps under mu, so the child completes after this claim.
	_, dead, alive := peek(unix.P_PID, pid)
	present := dead || alive
	if since.IsZero() && present && !owned {
		return t.claimLocked(pid, owner), nil
	}
	if e, ok := r.kept.take(pid, t.seq, since); ok {
		return t.deadLocked(e, owner), nil
	}
	if owned {
		return nil, fmt.Errorf("claim pid %d: %w", pid, ErrClaimed)
	}
	if present {
		return t.claimLocked(pid, owner), nil
	}
	// The clock may have been set back since the pid file was written.
	if e, ok := r.kept.take(pid, t.seq, time.Time{}); ok {
		return t.deadLocked(e, owner), nil
	}
	return nil, fmt.Errorf("claim pid %d: %w", pid, ErrNotChild)
}

// claimLocked registers pid's owner; the caller holds t.r.mu.
// +checklocks:t.r.mu
func (t *Ticket) claimLocked(pid int, owner any) *Child {
	c := newChild(pid, owner)
	t.r.claims[pid] = c
	return c
}

// deadLocked returns the Child of a process that died before it was claimed, and
// queues its exit for the subscribers again, now with its owner; the caller holds
// t.r.mu.
// +checklocks:t.r.mu
func (t *Ticket) deadLocked(e Exit, owner any) *Child {
	e.Owner = owner
	c := NewDead(e)
	if owner != nil {
		t.r.tellLocked(e)
	}
	return c
}
