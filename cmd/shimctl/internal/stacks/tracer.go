// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/stackdump"
)

// Bounds of the tracer.
const (
	armLimit    = 200 * time.Millisecond // a thread in state D does not stop: go on without it
	detachLimit = 200 * time.Millisecond
	lookAhead   = 256       // logrus puts time and level before the mark
	maxDump     = 256 << 20 // 20,000 goroutines make 14 MB
)

// TraceStats tells what the tracer did to the shim.
type TraceStats struct {
	Threads int           `json:"threads"`
	Stops   int           `json:"stops"`   // of any thread
	Unarmed int           `json:"unarmed"` // threads that did not stop in time
	Attach  time.Duration `json:"attach_ns"`
	Held    time.Duration `json:"held_ns"`    // how long the writing thread stood still for the copy
	Longest time.Duration `json:"longest_ns"` // the longest stop of any thread, the copy included
}

// thread is a traced thread of the shim.
type thread struct {
	armed  bool // has been stopped once and runs to its next system call since
	inside bool // the next system call stop is an exit
	gone   bool
}

// tracer does the work in the child process, on one locked thread: the kernel
// takes ptrace requests from the attaching thread only.
type tracer struct {
	pid     int
	threads map[int]*thread
	stats   TraceStats
	start   time.Time
	found   []byte
	send    func() // SIGUSR1, once
	finish  sync.Once
}

// TracerMain is the child's main function: it writes the dump to standard
// output and its statistics to standard error as JSON. Its parent kills it at
// the time limit, and the kernel kills it when the parent dies.
func TracerMain(args []string) int {
	runtime.LockOSThread()
	if len(args) != 2 {
		return 64
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return 64
	}
	ticks, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return 64
	}
	t := &tracer{pid: pid, threads: map[int]*thread{}, start: time.Now()}
	s := &scan.Shim{PID: pid, StartTicks: ticks}
	t.send = sync.OnceFunc(func() {
		if err := sendUSR1(s); err != nil {
			fmt.Fprintln(os.Stderr, "signal:", err)
			os.Exit(1) // the kernel detaches
		}
	})
	if err := t.run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	t.report()
	return 0
}

// report writes the result once, and only then may the process end.
func (t *tracer) report() {
	t.finish.Do(func() {
		_, _ = os.Stdout.Write(t.found)
		_ = json.NewEncoder(os.Stderr).Encode(t.stats)
	})
}

func (t *tracer) run() error {
	if err := t.seizeAll(); err != nil {
		return err
	}
	arm := time.AfterFunc(armLimit, t.send)
	defer arm.Stop()
	for t.found == nil {
		tid, status, err := ptrace.Wait(0)
		if err != nil {
			return fmt.Errorf("wait for the traced threads: %w", err)
		}
		if err := t.stop(tid, status); err != nil {
			return err
		}
	}
	return nil
}

// seizeAll attaches to every thread and asks each to stop once, so that it
// runs from one system call to the next afterwards.
func (t *tracer) seizeAll() error {
	for again := true; again; { // threads may have come while the list was read
		again = false
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
		if err != nil {
			return err
		}
		for _, e := range entries {
			tid, err := strconv.Atoi(e.Name())
			if err != nil || t.threads[tid] != nil {
				continue
			}
			err = ptrace.Seize(tid, ptrace.Basic)
			if err == unix.ESRCH || err == unix.EPERM && tid != t.pid {
				continue // it has ended, or its creator's trace option got it first
			}
			if err != nil {
				return os.NewSyscallError("ptrace seize", err)
			}
			t.threads[tid] = &thread{}
			again = true
			_ = ptrace.Interrupt(tid) // ESRCH: it has ended
		}
	}
	t.stats.Threads = len(t.threads)
	return nil
}

// stop handles one stop of one thread.
func (t *tracer) stop(tid int, status unix.WaitStatus) error {
	began := time.Now()
	th := t.threads[tid]
	if th == nil { // a new thread's first stop may come before its creator's event
		th = &thread{}
		t.threads[tid] = th
	}
	if status.Exited() || status.Signaled() {
		th.gone = true
		if tid == t.pid {
			return fmt.Errorf("the process ended: %w", unix.ESRCH)
		}
		t.armed()
		return nil
	}
	if !status.Stopped() {
		return nil
	}
	t.stats.Stops++
	sig, event := status.StopSignal(), int(status)>>16
	inject := 0
	switch {
	case sig == unix.SIGTRAP|0x80: // a system call
		th.inside = !th.inside
		if th.inside {
			t.found = t.written(tid)
		}
	case event == unix.PTRACE_EVENT_STOP:
		th.inside = false
		th.armed = true
		if sig != unix.SIGTRAP { // a group stop: leave it stopped, as whoever sent it wants
			_ = ptrace.Listen(tid)
			return nil
		}
		t.armed()
	case event != 0: // a clone; the new thread reports itself
	default:
		inject = int(sig)
	}
	if t.found != nil {
		t.stats.Held = time.Since(began)
		t.detachAll(tid)
		t.stats.Longest = max(t.stats.Longest, t.stats.Held)
		return nil
	}
	err := ptrace.ToSyscall(tid, inject)
	t.stats.Longest = max(t.stats.Longest, time.Since(began))
	if err != nil && err != unix.ESRCH {
		return os.NewSyscallError("ptrace syscall", err)
	}
	return nil
}

// armed sends the signal when the last thread is on its way.
func (t *tracer) armed() {
	for _, th := range t.threads {
		if !th.armed && !th.gone {
			return
		}
	}
	if t.stats.Attach == 0 {
		t.stats.Attach = time.Since(t.start)
	}
	t.send()
}

// written is the buffer of the write(2) that the thread is about to do, if a
// dump begins in it. The sink does not matter: it is descriptor 2 in some
// releases and 8 in others.
func (t *tracer) written(tid int) []byte {
	addr, n, ok := writeArgs(tid)
	if !ok || n < len(stackdump.BeginMark) || n > maxDump {
		return nil
	}
	head := make([]byte, min(n, lookAhead))
	if !ptrace.Read(t.pid, head, addr) || !bytes.Contains(head, []byte(stackdump.BeginMark)) {
		return nil
	}
	whole := make([]byte, n)
	if !ptrace.Read(t.pid, whole, addr) {
		return nil
	}
	return whole
}

// detachAll lets the shim go. The thread that stands at its write is let go
// first; the others have to stop for it once more.
func (t *tracer) detachAll(stopped int) {
	for _, th := range t.threads {
		if !th.armed && !th.gone {
			t.stats.Unarmed++
		}
	}
	_ = ptrace.Detach(stopped, 0)
	t.threads[stopped].gone = true
	left := 0
	for tid, th := range t.threads {
		if !th.gone {
			if ptrace.Interrupt(tid) == nil {
				left++
			}
		}
	}
	// A thread that does not stop is detached by our exit.
	giveUp := time.AfterFunc(detachLimit, func() { t.report(); os.Exit(0) })
	defer giveUp.Stop()
	for left > 0 {
		tid, status, err := ptrace.Wait(0)
		if err != nil {
			return
		}
		th := t.threads[tid]
		if th != nil && th.gone {
			continue
		}
		began, inject := time.Now(), 0
		if status.Stopped() {
			if sig := status.StopSignal(); int(status)>>16 == 0 && sig != unix.SIGTRAP|0x80 {
				inject = int(sig)
			}
			_ = ptrace.Detach(tid, inject)
			t.stats.Longest = max(t.stats.Longest, time.Since(began))
		}
		if th != nil {
			th.gone = true
			left--
		}
	}
}
