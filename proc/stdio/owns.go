// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// pipeAt returns the kernel's name of the pipe that a process has as this descriptor,
// "pipe:[INODE]" (proc(5), /proc/pid/fd); "" if it is anything else. Only the link is
// read. What it leads to is not asked: that may be a file whose server is gone, and
// then stat(2) never returns.
func pipeAt(pid, fd int) string {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	if err != nil || !strings.HasPrefix(link, "pipe:[") { // all that has a path begins with a slash
		return ""
	}
	return link
}

// Owns reports whether pid has one of the pipes, or this very opening of
// /dev/null, as its stdio: whether it is the process, or its child.
func (s *Streams) Owns(pid int) bool {
	s.mu.Lock()
	null := s.null
	s.mu.Unlock()
	for fd := range 3 {
		if s.pipes[pipeAt(pid, fd)] {
			return true
		}
		if null != nil && sameOpening(null, pid, fd) {
			return true
		}
	}
	return false
}

// sameOpening reports whether f and pid's fd are one open file description
// (kcmp(2), KCMP_FILE, Linux 3.5; false where the kernel was built without it).
func sameOpening(f *os.File, pid, fd int) bool {
	const kcmpFile = 0
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(pid), kcmpFile, f.Fd(), uintptr(fd), 0)
	return errno == 0 && r == 0
}
