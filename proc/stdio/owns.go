// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// inode is a file, among all of the host's: a FIFO may have the number of a pipe.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// Owns reports whether pid has one of the pipes, or this very opening of
// /dev/null, as its stdio: whether it is the process, or its child.
func (s *Streams) Owns(pid int) bool {
	s.mu.Lock()
	null := s.null
	s.mu.Unlock()
	for fd := range 3 {
		var st unix.Stat_t
		err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), &st)
		if err == nil && s.pipes[inodeOf(&st)] {
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
