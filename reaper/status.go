// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// UnknownStatus is the exit status reported when the true one cannot be known.
const UnknownStatus = 255

// Exit says how and when one process ended.
type Exit struct {
	// Seq numbers the deaths that the Reaper has seen, in their order.
	Seq uint64
	Pid int
	// Status is the exit code, or 128 + the number of the fatal signal.
	Status int
	// At is when the reaper saw the process dead, within microseconds of
	// SIGCHLD being handled.
	At time.Time
	// Owner is what was given to Claim; nil for a process that nobody has
	// claimed, or that was claimed without an owner.
	Owner any
}

// siginfoChild is the layout of siginfo_t that waitid(2) fills in
// (include/uapi/asm-generic/siginfo.h): three ints, padding to the alignment of
// a pointer, then the fields of _sigchld. MIPS orders them otherwise and is not
// supported.
type siginfoChild struct {
	Signo, Errno, Code int32
	_                  [unsafe.Sizeof(uintptr(0)) / 8]int32
	Pid                int32
	UID                uint32
	Status             int32
}

const (
	cldExited = 1 // CLD_EXITED; CLD_KILLED and CLD_DUMPED carry a signal
)

// exitStatus turns si_code and si_status into a shell's exit status.
func exitStatus(code, status int32) int {
	if code == cldExited {
		return int(status)
	}
	return 128 + int(status)
}

// peek returns one dead child without reaping it; ok is false if there is none.
// With idtype P_PID only the child with that id is considered; alive then reports
// whether it is a living child.
func peek(idtype, id int) (exit Exit, ok, alive bool) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(idtype, id, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil { // ECHILD: no such child
			return Exit{}, false, false
		}
		break
	}
	si := (*siginfoChild)(unsafe.Pointer(&info))
	if si.Pid == 0 { // no child is dead
		return Exit{}, false, true
	}
	return Exit{
		Pid:    int(si.Pid),
		Status: exitStatus(si.Code, si.Status),
		At:     time.Now(),
	}, true, false
}
