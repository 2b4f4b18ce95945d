// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
)

// stopLimit is how long Stop waits for a thread that does not stop: one in
// vfork(2) sleeps uninterruptibly until its child has executed a program.
const stopLimit = 100 * time.Millisecond

// ErrGone is returned when the process has ended.
var ErrGone = errors.New("the process has ended")

// ErrBusy is wrapped by errors that may be gone in a moment.
var ErrBusy = errors.New("busy")

// thread is one traced thread.
type thread struct {
	stopped bool
	entry   bool // at the entry of a system call, which is not done yet
	inside  bool // the next system call stop is an exit
	signal  int  // its delivery was stopped, so it is given when the thread goes on
	group   bool // in a group stop
}

// Tracee is a process of which every thread is seized.
type Tracee struct {
	PID     int
	threads map[int]*thread
	stopAt  time.Time
}

// Seize attaches to every thread of the process. Threads that it makes from now
// on are attached as they come.
func Seize(pid int) (*Tracee, error) {
	t := &Tracee{PID: pid, threads: map[int]*thread{}}
	for again := true; again; { // until a listing has nothing new
		again = false
		tids, err := ptrace.Threads(pid)
		if err != nil {
			return nil, err
		}
		for _, tid := range tids {
			if t.threads[tid] != nil {
				continue
			}
			err := ptrace.Seize(tid, ptrace.Basic|ptrace.Exec)
			if err == unix.ESRCH || err == unix.EPERM && tid != pid {
				continue // it has ended, or its creator's trace option got it first
			}
			if err != nil {
				return nil, os.NewSyscallError("ptrace seize", err)
			}
			t.threads[tid] = &thread{}
			again = true
		}
	}
	return t, nil
}

// Call is a system call that a thread is about to do.
type Call struct {
	TID  int
	Nr   uint64
	Args [6]uint64
}

// Verdict says what becomes of a thread at a system call.
type Verdict int

// The verdicts.
const (
	Pass   Verdict = iota // it goes on
	Hold                  // it stays at the entry of the call until Detach
	Finish                // the same, and Gate returns
)

// Gate lets all threads run from one system call to the next and asks look about
// each until it says Finish. begin is called once every thread is on its way.
func (t *Tracee) Gate(begin func() error, look func(Call) Verdict) error {
	waiting := map[int]bool{}
	for tid := range t.threads {
		if ptrace.Interrupt(tid) == nil { // ESRCH: it has ended
			waiting[tid] = true
		}
	}
	late := time.Now().Add(stopLimit) // a thread in vfork(2) does not stop: go on without it
	begun := false
	for {
		if !begun && (len(waiting) == 0 || time.Now().After(late)) {
			if begun = true; begin != nil {
				if err := begin(); err != nil {
					return err
				}
			}
		}
		tid, status, err := t.next(begun)
		if err != nil {
			return err
		}
		if tid == 0 {
			continue
		}
		delete(waiting, tid)
		th, err := t.stop(tid, status)
		if err != nil {
			return err
		}
		if th == nil || th.group {
			continue
		}
		if th.entry {
			c, err := callOf(tid)
			if err == unix.ESRCH { // it was killed meanwhile, and says so
				continue
			}
			if err != nil {
				return os.NewSyscallError("ptrace getregs", err)
			}
			switch look(c) {
			case Hold:
				continue
			case Finish:
				return nil
			}
		}
		if err := t.resume(tid, th); err != nil {
			return err
		}
	}
}

// next waits for a stop: for as long as it takes when block is set, a moment
// otherwise, and then tid is 0.
func (t *Tracee) next(block bool) (tid int, status unix.WaitStatus, err error) {
	flags := unix.WNOHANG
	if block {
		flags = 0
	}
	tid, status, err = ptrace.Wait(flags)
	if err == nil && tid == 0 {
		time.Sleep(pollStops)
	}
	return tid, status, os.NewSyscallError("wait4", err)
}

// pollStops is the pause between two looks for a stop.
const pollStops = 50 * time.Microsecond

// stop records what a thread has stopped for. It returns nil when the thread has
// ended.
func (t *Tracee) stop(tid int, status unix.WaitStatus) (*thread, error) {
	th := t.threads[tid]
	if status.Exited() || status.Signaled() {
		delete(t.threads, tid)
		if tid == t.PID {
			return nil, ErrGone
		}
		return nil, nil
	}
	if th == nil { // a new thread's first stop may come before its creator's event
		th = &thread{}
		t.threads[tid] = th
	}
	sig, event := status.StopSignal(), int(status)>>16
	th.stopped, th.entry = true, false
	switch {
	case sig == unix.SIGTRAP|0x80:
		th.inside = !th.inside
		th.entry = th.inside
	case event == unix.PTRACE_EVENT_STOP:
		th.inside = false
		th.group = sig != unix.SIGTRAP
	case event == unix.PTRACE_EVENT_EXEC:
		return nil, fmt.Errorf("the process has executed another program: %w", ErrGone)
	case event != 0: // a clone; the new thread reports itself
	default:
		th.signal = int(sig)
	}
	return th, nil
}

// resume lets a stopped thread run to its next system call.
func (t *Tracee) resume(tid int, th *thread) error {
	sig := th.signal
	th.stopped, th.entry, th.signal = false, false, 0
	if err := ptrace.ToSyscall(tid, sig); err != nil && err != unix.ESRCH {
		return os.NewSyscallError("ptrace syscall", err)
	}
	return nil
}

// Stop stops every thread. It fails with ErrBusy when one does not stop.
func (t *Tracee) Stop() error {
	t.stopAt = time.Now()
	for again := true; again; {
		again = false
		for tid, th := range t.threads {
			if !th.stopped {
				_ = ptrace.Interrupt(tid) // ESRCH: it has ended, and says so
			}
		}
		for t.running() > 0 {
			tid, status, err := t.next(false)
			if err != nil {
				return err
			}
			if tid != 0 {
				if _, err := t.stop(tid, status); err != nil {
					return err
				}
			} else if time.Since(t.stopAt) > stopLimit {
				return fmt.Errorf("%w: a thread does not stop (uninterruptible sleep)", ErrBusy)
			}
		}
		tids, err := ptrace.Threads(t.PID)
		if err != nil {
			return err
		}
		for _, tid := range tids {
			if t.threads[tid] != nil {
				continue
			}
			switch ptrace.Seize(tid, ptrace.Basic|ptrace.Exec) {
			case nil:
				t.threads[tid], again = &thread{}, true
			case unix.EPERM: // its creator's option has got it and its stop is on the way, or it ends
				if again = true; time.Since(t.stopAt) > stopLimit {
					return fmt.Errorf("%w: a thread cannot be traced", ErrBusy)
				}
				if tid, status, err := t.next(false); err == nil && tid != 0 {
					if _, err := t.stop(tid, status); err != nil {
						return err
					}
				}
			}
		}
	}
	for _, th := range t.threads {
		if th.group {
			return fmt.Errorf("%w: the process is stopped by a signal", ErrBusy)
		}
	}
	return nil
}

// Stopped is since when the process stands still.
func (t *Tracee) Stopped() time.Time { return t.stopAt }

func (t *Tracee) running() (n int) {
	for _, th := range t.threads {
		if !th.stopped {
			n++
		}
	}
	return n
}

// Detach lets every thread go on with what it was doing. A thread that does not
// stop for it is detached when the calling thread ends.
func (t *Tracee) Detach() {
	limit := time.Now().Add(stopLimit)
	for tid, th := range t.threads {
		if th.stopped {
			t.release(tid, th)
		} else if ptrace.Interrupt(tid) != nil {
			delete(t.threads, tid)
		}
	}
	for len(t.threads) > 0 && time.Now().Before(limit) {
		tid, status, err := t.next(false)
		if err != nil {
			return
		}
		if tid == 0 {
			continue
		}
		if th, err := t.stop(tid, status); err == nil && th != nil {
			t.release(tid, th)
		}
	}
}

func (t *Tracee) release(tid int, th *thread) {
	_ = ptrace.Detach(tid, th.signal) // ESRCH: it was killed meanwhile
	delete(t.threads, tid)
}

// Pending are the signals whose delivery was stopped: a new program does not get
// them.
func (t *Tracee) Pending() (signals []int) {
	for _, th := range t.threads {
		if th.signal != 0 && th.signal != int(unix.SIGCHLD) && th.signal != int(unix.SIGURG) {
			signals = append(signals, th.signal)
		}
	}
	return signals
}
