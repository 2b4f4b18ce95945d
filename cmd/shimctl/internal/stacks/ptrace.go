// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// seize attaches without stopping (Linux 3.4). x/sys's PtraceSeize passes no
// options, and setting them later would miss threads that are cloned meanwhile.
// PTRACE_O_EXITKILL must never be among them.
func seize(tid int) error {
	return request(unix.PTRACE_SEIZE, tid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE)
}

func interrupt(tid int) error { return request(unix.PTRACE_INTERRUPT, tid, 0) }

// listen keeps a group-stopped thread stopped and lets SIGCONT wake it.
func listen(tid int) error { return request(unix.PTRACE_LISTEN, tid, 0) }

// toSyscall lets a thread run to its next system call, and gives it the signal.
func toSyscall(tid, signal int) error { return request(unix.PTRACE_SYSCALL, tid, uintptr(signal)) }

func detach(tid, signal int) error { return request(unix.PTRACE_DETACH, tid, uintptr(signal)) }

func request(what, tid int, data uintptr) error {
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PTRACE, uintptr(what), uintptr(tid), 0, data, 0, 0); e != 0 {
		return e
	}
	return nil
}

// wait takes the next stop of any traced thread.
func wait() (tid int, status unix.WaitStatus, err error) {
	for {
		tid, err = unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		if err != unix.EINTR {
			return tid, status, err
		}
	}
}

// readMemory fills b from the process's memory at addr (Linux 3.2). It is true
// when all of it was there.
func readMemory(pid int, b []byte, addr uintptr) bool {
	for len(b) > 0 {
		local := []unix.Iovec{{Base: &b[0]}}
		local[0].SetLen(len(b))
		n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: addr, Len: len(b)}}, 0)
		if err != nil || n <= 0 {
			return false
		}
		b, addr = b[n:], addr+uintptr(n)
	}
	return true
}
