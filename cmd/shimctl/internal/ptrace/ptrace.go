// SPDX-License-Identifier: Apache-2.0

// Package ptrace wraps the few ptrace(2) requests that shimctl makes, and reads
// and writes another process's memory. The kernel takes requests only from the
// thread that has seized the tracee, so a caller must lock its goroutine to a thread.
package ptrace

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Options of Seize. PTRACE_O_EXITKILL must never be among them: whenever the tracer
// dies, the kernel detaches it, and the process goes on.
const (
	Basic = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE
	Exec  = unix.PTRACE_O_TRACEEXEC
)

// Seize attaches to a thread without stopping it (Linux 3.4). x/sys's PtraceSeize
// passes no options, and threads cloned before they are set later would be missed.
func Seize(tid, options int) error { return request(unix.PTRACE_SEIZE, tid, 0, uintptr(options)) }

// Interrupt stops a running thread.
func Interrupt(tid int) error { return request(unix.PTRACE_INTERRUPT, tid, 0, 0) }

// Listen keeps a group-stopped thread stopped and lets SIGCONT wake it.
func Listen(tid int) error { return request(unix.PTRACE_LISTEN, tid, 0, 0) }

// ToSyscall lets a stopped thread run to its next entry to, or exit from, a system
// call, and delivers the signal to it unless that is 0.
func ToSyscall(tid, signal int) error { return request(unix.PTRACE_SYSCALL, tid, 0, uintptr(signal)) }

// Detach lets a stopped thread go, and delivers the signal to it unless that is 0.
func Detach(tid, signal int) error { return request(unix.PTRACE_DETACH, tid, 0, uintptr(signal)) }

func request(what, tid int, addr, data uintptr) error {
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PTRACE, uintptr(what), uintptr(tid), addr, data, 0, 0); e != 0 {
		return e
	}
	return nil
}

// Wait waits for the next stop or end of any thread that the calling thread traces.
// With unix.WNOHANG among the flags it does not wait, and tid is 0 if there is none.
func Wait(flags int) (tid int, status unix.WaitStatus, err error) {
	for {
		tid, err = unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD|flags, nil)
		if err != unix.EINTR {
			return tid, status, err
		}
	}
}

// Threads lists the thread ids of a process.
func Threads(pid int) (tids []int, err error) {
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

// Read fills b from the process's memory at addr (Linux 3.2). It reports whether
// all of it was there.
func Read(pid int, b []byte, addr uintptr) bool {
	return transfer(b, addr, func(local []unix.Iovec, remote []unix.RemoteIovec) (int, error) {
		return unix.ProcessVMReadv(pid, local, remote, 0)
	})
}

// Write writes b into the process's writable memory at addr. It reports
// whether all of it was written.
func Write(pid int, b []byte, addr uintptr) bool {
	return transfer(b, addr, func(local []unix.Iovec, remote []unix.RemoteIovec) (int, error) {
		return unix.ProcessVMWritev(pid, local, remote, 0)
	})
}

func transfer(b []byte, addr uintptr, do func([]unix.Iovec, []unix.RemoteIovec) (int, error)) bool {
	for len(b) > 0 {
		local := []unix.Iovec{{Base: &b[0]}}
		local[0].SetLen(len(b))
		n, err := do(local, []unix.RemoteIovec{{Base: addr, Len: len(b)}})
		if err != nil || n <= 0 {
			return false
		}
		b, addr = b[n:], addr+uintptr(n)
	}
	return true
}

// SignalMask returns the set of signals that a stopped thread blocks, bit 0 for signal 1
// (Linux 3.11).
func SignalMask(tid int) (mask uint64, err error) {
	err = requestMask(getSignalMask, tid, &mask)
	return mask, err
}

// SetSignalMask sets the signals that a stopped thread blocks.
func SetSignalMask(tid int, mask uint64) error { return requestMask(setSignalMask, tid, &mask) }

// Poke writes b into any memory of a stopped thread, even its code.
func Poke(tid int, addr uintptr, b []byte) error {
	_, err := unix.PtracePokeText(tid, addr, b)
	return err
}
