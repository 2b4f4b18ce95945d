// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"container/list"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// running guards against a second owner of wait in one process.
var running atomic.Bool

// Reaper reaps every child of the process. Create it with New.
type Reaper struct {
	// wake receives SIGCHLD. Its capacity is 1: signals coalesce anyway, and one
	// look finds every dead child.
	wake chan os.Signal
	// stop ends the reaping goroutine, which then closes stopped. Resume makes
	// both anew. Only Resume, Pause and Close use them, one at a time.
	stop    chan struct{}
	stopped chan struct{}
	forks   *Forker
	reaped  atomic.Uint64

	mu sync.Mutex
	// +checklocks:mu
	claims map[int]*Child // living children that have an owner
	// +checklocks:mu
	open *list.List // *Ticket, in the order of Begin
	// +checklocks:mu
	seq uint64 // the latest number; it orders deaths and tickets
	// +checklocks:mu
	kept ledger
	// +checklocks:mu
	subs map[*Subscription]struct{}
}

// New starts reaping. It panics if the process already has a Reaper: two
// owners of wait lose exits. The Reaper closes forks.
func New(forks *Forker) *Reaper {
	r := Prepare(forks, 0)
	r.Resume()
	return r
}

// Prepare is New, but nothing is reaped before Resume: children that the program
// had before can be claimed first. Deaths are numbered from seq+1.
func Prepare(forks *Forker, seq uint64) *Reaper {
	if !running.CompareAndSwap(false, true) {
		panic("reaper: a second Reaper in one process")
	}
	r := &Reaper{
		wake:   make(chan os.Signal, 1),
		forks:  forks,
		claims: make(map[int]*Child),
		open:   list.New(),
		seq:    seq,
		subs:   make(map[*Subscription]struct{}),
	}
	// A handler also undoes an inherited SIG_IGN, under which the kernel would
	// reap by itself and lose every status.
	signal.Notify(r.wake, unix.SIGCHLD)
	return r
}

// Resume starts reaping after Prepare or Pause, and finds children that are dead
// already. Resume, Pause and Close must not be called concurrently.
func (r *Reaper) Resume() {
	r.stop, r.stopped = make(chan struct{}), make(chan struct{})
	go r.loop(r.stop, r.stopped)
}

// Pause stops reaping: the dead stay zombies until Resume. When it returns, every
// exit that was reaped is with its owner and its subscribers.
func (r *Reaper) Pause() {
	close(r.stop)
	<-r.stopped
}

// Close stops reaping for good. Children that are still claimed never complete.
// The Reaper must not be paused.
func (r *Reaper) Close() {
	signal.Stop(r.wake)
	r.Pause()
	r.forks.Close()
	running.Store(false)
}

// Seq returns the number of the latest death that was seen.
func (r *Reaper) Seq() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq
}

// Reaped returns how many children were reaped so far.
func (r *Reaper) Reaped() uint64 { return r.reaped.Load() }

func (r *Reaper) loop(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	for {
		for r.reapOne() {
			select {
			case <-stop: // children may die faster than they are reaped
				return
			default:
			}
		}
		select {
		case <-r.wake:
		case <-stop:
			return
		}
	}
}

// tellLocked queues e for every subscriber; the caller holds r.mu.
// +checklocks:r.mu
func (r *Reaper) tellLocked(e Exit) {
	for s := range r.subs {
		s.push(e)
	}
}

// reapOne hands over and reaps one dead child; false means that none is left.
func (r *Reaper) reapOne() bool {
	exit, ok, _ := peek(unix.P_ALL, 0)
	if !ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	exit.Seq = r.seq
	if c, ok := r.claims[exit.Pid]; ok {
		delete(r.claims, exit.Pid)
		exit.Owner = c.owner
		c.complete(exit)
	} else if r.open.Len() > 0 {
		r.kept.add(exit)
	}
	r.tellLocked(exit)
	// Handing over and reaping are one step for Claim, which must not take
	// the zombie of an exit that it also finds in the ledger for a new child.
	for {
		_, err := unix.Wait4(exit.Pid, nil, unix.WNOHANG, nil)
		if err != unix.EINTR {
			break // ECHILD: somebody else has reaped it; its exit is known all the same
		}
	}
	r.reaped.Add(1)
	return true
}
