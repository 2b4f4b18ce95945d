// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Child is the promise of one process's exit.
type Child struct {
	pid   int
	owner any // see Exit.Owner
	// done is closed once, by complete, after exit was written.
	done chan struct{}

	mu   sync.Mutex
	exit Exit // guarded by mu until done is closed; read only from then on
}

func newChild(pid int, owner any) *Child {
	return &Child{pid: pid, owner: owner, done: make(chan struct{})}
}

// NewDead returns the Child of a process whose exit is already known. No Reaper
// is involved.
func NewDead(e Exit) *Child {
	c := newChild(e.Pid, e.Owner)
	c.complete(e)
	return c
}

// Pid returns the process id, also after the exit.
func (c *Child) Pid() int { return c.pid }

// Done is closed when the exit is known.
func (c *Child) Done() <-chan struct{} { return c.done }

// Wait waits for the exit and returns it.
func (c *Child) Wait() Exit {
	<-c.done
	return c.exit
}

// Signal sends sig to the process. It returns os.ErrProcessDone once the exit
// is known; it never signals another process that got the same pid, because
// the pid is not reaped, and so not free, before complete has returned.
func (c *Child) Signal(sig unix.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
		return os.ErrProcessDone
	default:
	}
	if err := unix.Kill(c.pid, sig); err != nil {
		if err == unix.ESRCH {
			return os.ErrProcessDone
		}
		return os.NewSyscallError("kill", err)
	}
	return nil
}

func (c *Child) complete(e Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exit = e
	close(c.done)
}
