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

// stopLimit is how long to wait for a thread that does not stop: one in vfork(2)
// sleeps uninterruptibly until its child has executed a program.
const stopLimit = 100 * time.Millisecond

// ErrGone is returned if the process has ended.
var ErrGone = errors.New("the process has ended")

// ErrCommitted is wrapped by an error that came after the process was sent into execve(2).
var ErrCommitted = errors.New("the exchange had begun")

// ErrBusy is wrapped by errors whose cause may be gone in a moment.
var ErrBusy = errors.New("busy")

// thread is one traced thread.
type thread struct {
	stopped bool
	entry   bool // it is at the entry of a system call, which has not begun
	inside  bool // it is in a system call, so that its next such stop is the exit
	left    bool // it is at the exit of a system call
	cloning bool // it is in the middle of clone(2), which cannot be restarted
	watched bool // whoever looks at its calls wants to see the end of this one
	signal  int  // was about to be delivered when the thread stopped; delivered when it goes on
	group   bool // it is in a group-stop (ptrace(2))
}

// Tracee is a process whose threads are all seized.
type Tracee struct {
	PID     int
	threads map[int]*thread
	stopAt  time.Time
	handled bool      // a signal was delivered while the threads ran through Gate
	signal  time.Time // when the last one was delivered
}

// Seize attaches to every thread of the process. Threads that the process makes from now
// on are attached by the kernel. The caller must Detach.
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
				continue // it has ended, or was attached as a clone of a traced thread
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

// Call is a system call that a thread is about to make, or one that was watched and has ended.
type Call struct {
	TID    int
	Nr     uint64
	Args   [6]uint64
	Ended  bool
	Result int64 // once it has ended: a negative errno, or what the call returns
}

// Verdict says what is done with a thread at a system call.
type Verdict int

// The verdicts.
const (
	Pass   Verdict = iota // it goes on
	Watch                 // it goes on, and Gate asks again at the end of the call
	Hold                  // it is held at the entry of the call until Detach
	Finish                // it is held there, and Gate returns
)

// Gate lets all threads run from one system call to the next and asks look about
// each call until that says Finish. begin, which may be nil, is called once every
// thread runs so, or does not stop within stopLimit.
func (t *Tracee) Gate(begin func() error, look func(Call) Verdict) error {
	return t.run(begin, look, nil)
}

// Drain lets all threads run like that, and holds those at whose call hold says so, until
// done reports true, which is for children to end. They stay there in a Gate that follows. The
// error wraps ErrBusy if that takes longer than limit.
func (t *Tracee) Drain(limit time.Duration, hold func(Call) bool, done func() bool) error {
	look := func(c Call) Verdict {
		if hold(c) {
			return Hold
		}
		return Pass
	}
	end, asked, late := time.Now().Add(limit), time.Time{}, false
	t.signal = time.Now() // one may have come before
	err := t.run(nil, look, func() bool {
		if time.Since(asked) < pollDone {
			return false
		}
		over := done()
		asked = time.Now() // it may have taken a while, in which stops have come
		late = !over && asked.After(end)
		return over || late
	})
	if err == nil && late {
		err = fmt.Errorf("%w: its children end all the time", ErrBusy)
	}
	return err
}

// Quiet returns how long no signal was delivered.
func (t *Tracee) Quiet() time.Duration { return time.Since(t.signal) }

// pollDone is the pause between two questions whether a Drain is done.
const pollDone = 5 * time.Millisecond

// run is Gate if over is nil. Otherwise it also returns once over reports true.
func (t *Tracee) run(begin func() error, look func(Call) Verdict, over func() bool) error {
	waiting := map[int]bool{}
	for tid, th := range t.threads {
		if !th.stopped && ptrace.Interrupt(tid) == nil { // ESRCH: it has ended
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
		if begun && over != nil && over() {
			return nil
		}
		tid, status, err := t.next(begun && over == nil)
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
		if th.entry || th.left && th.watched {
			c, err := callOf(tid)
			if err == unix.ESRCH { // it was killed meanwhile; its end is reported later
				continue
			}
			if err != nil {
				return os.NewSyscallError("ptrace getregs", err)
			}
			c.Ended, th.watched = th.left, false
			switch look(c) {
			case Watch:
				th.watched = true
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

// next waits for a stop or an end of a thread: with block for as long as it takes,
// otherwise for a moment; tid is 0 if none has come.
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

// stop records why a thread has stopped. It returns nil if the thread has ended.
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
	th.stopped, th.entry, th.left, th.cloning = true, false, false, false
	switch {
	case sig == unix.SIGTRAP|0x80:
		th.inside = !th.inside
		th.entry, th.left = th.inside, !th.inside
	case event == unix.PTRACE_EVENT_STOP:
		th.inside = false
		th.group = sig != unix.SIGTRAP
	case event == unix.PTRACE_EVENT_EXEC:
		return nil, fmt.Errorf("the process has executed another program: %w", ErrGone)
	case event != 0: // the new thread reports itself
		th.cloning = true
	default:
		th.signal = int(sig)
	}
	return th, nil
}

// resume lets a stopped thread run to its next system call.
func (t *Tracee) resume(tid int, th *thread) error {
	sig := th.signal
	switch unix.Signal(sig) {
	case 0, unix.SIGUSR1, unix.SIGCHLD, unix.SIGURG: // a dump is wanted, a child reaped, a goroutine preempted
	default:
		t.handled = true
	}
	if sig != 0 {
		t.signal = time.Now()
	}
	th.stopped, th.entry, th.signal = false, false, 0
	if err := ptrace.ToSyscall(tid, sig); err != nil && err != unix.ESRCH {
		return os.NewSyscallError("ptrace syscall", err)
	}
	return nil
}

// Stop stops every thread. The error wraps ErrBusy if one does not stop in time.
func (t *Tracee) Stop() error {
	t.stopAt = time.Now()
	for again := true; again; {
		again = false
		for tid, th := range t.threads {
			if !th.stopped {
				_ = ptrace.Interrupt(tid) // ESRCH: it has ended; that is reported below
			}
		}
		for t.running() > 0 {
			tid, status, err := t.next(false)
			if err != nil {
				return err
			}
			if tid != 0 {
				th, err := t.stop(tid, status)
				if err != nil {
					return err
				}
				t.requeue(tid, th)
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
			case unix.EPERM: // it was attached as a clone, and its stop is on the way; or it is ending
				if again = true; time.Since(t.stopAt) > stopLimit {
					return fmt.Errorf("%w: a thread cannot be traced", ErrBusy)
				}
				if tid, status, err := t.next(false); err == nil && tid != 0 {
					th, err := t.stop(tid, status)
					if err != nil {
						return err
					}
					t.requeue(tid, th)
				}
			}
		}
	}
	for _, th := range t.threads {
		if th.group {
			return fmt.Errorf("%w: the process is stopped by a signal", ErrBusy)
		}
	}
	if t.handled { // what it asks for may be on its way between two goroutines
		return fmt.Errorf("%w: a signal is being handled", ErrBusy)
	}
	return nil
}

// requeue sends a signal again that was about to be delivered when the thread stopped. The
// kernel has forgotten it: it would be lost if this process ended now, or with the old
// program. Sent again it stays pending, also across execve(2). th is nil if the thread has ended.
func (t *Tracee) requeue(tid int, th *thread) {
	if th == nil || th.signal == 0 {
		return
	}
	switch signal := unix.Signal(th.signal); signal {
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP: // of this very instruction
		return
	case unix.SIGURG: // by which Go preempts what this thread runs
		_ = unix.Tgkill(t.PID, tid, signal) // ESRCH: it was killed meanwhile
	default:
		_ = unix.Kill(t.PID, signal) // ESRCH: as above
	}
	th.signal = 0
}

// Stopped returns the time at which Stop began.
func (t *Tracee) Stopped() time.Time { return t.stopAt }

func (t *Tracee) running() (n int) {
	for _, th := range t.threads {
		if !th.stopped {
			n++
		}
	}
	return n
}

// Detach lets every thread go on with what it was doing. A thread that does not stop
// within stopLimit is detached by the kernel when the calling thread ends.
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
