// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"containerd-shim/reaper"

	"golang.org/x/sys/unix"
)

// findStray looks for a process that a runtime has started without telling its
// pid: a child of the shim that has what this start gave it as its stdio. It
// returns nil if there is none, and for a process with a terminal: that one
// hangs up when the terminal is closed.
func findStray(ticket *reaper.Ticket, io *processIO) *reaper.Child {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || parentOf(pid) != os.Getpid() || !io.isStdioOf(pid) {
			continue
		}
		if child, err := ticket.Claim(pid, time.Time{}); err == nil {
			return child
		}
	}
	return nil
}

// parentOf returns the parent's pid, 0 if there is no such process.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// pid (comm) state ppid; comm may hold anything, so from its end.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(string(fields[1])) // 0 if it is not a number
	return ppid
}

// isStdioOf tells whether pid has one of the pipes, or this very opening of
// /dev/null, as its stdio.
func (p *processIO) isStdioOf(pid int) bool {
	p.mu.Lock()
	null := p.null
	p.mu.Unlock()
	for fd := range 3 {
		var st unix.Stat_t
		err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), &st)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO && p.pipes[st.Ino] {
			return true
		}
		if null != nil && sameOpening(null, pid, fd) {
			return true
		}
	}
	return false
}

// sameOpening tells whether f and pid's fd are one open file description
// (kcmp(2), KCMP_FILE, Linux 3.5; false where the kernel was built without it).
func sameOpening(f *os.File, pid, fd int) bool {
	const kcmpFile = 0
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(pid), kcmpFile, f.Fd(), uintptr(fd), 0)
	return errno == 0 && r == 0
}
