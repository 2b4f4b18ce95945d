// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// numbers are the calls that the filter stops. Calls that cannot fail for lack of
// a resource are not among them, and neither is mmap(2): a Go program whose mmap
// fails cannot even report it.
var numbers = map[uint32]string{
	unix.SYS_OPENAT: "open", unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_GETDENTS64: "getdents",
	unix.SYS_PIPE2: "pipe", unix.SYS_SOCKET: "socket", unix.SYS_CONNECT: "connect", unix.SYS_ACCEPT4: "accept",
	unix.SYS_CLONE: "clone", unix.SYS_EXECVE: "execve", unix.SYS_FCNTL: "fcntl", unix.SYS_DUP3: "dup",
	unix.SYS_MKDIRAT: "mkdir", unix.SYS_MKNODAT: "mknod", unix.SYS_UNLINKAT: "unlink", unix.SYS_RENAMEAT: "rename",
	unix.SYS_RENAMEAT2: "rename", unix.SYS_FCHMODAT: "chmod", unix.SYS_FCHMOD: "chmod", unix.SYS_FTRUNCATE: "truncate", unix.SYS_FSYNC: "fsync",
	unix.SYS_MOUNT: "mount", unix.SYS_UMOUNT2: "umount", unix.SYS_EPOLL_CTL: "epoll_ctl",
	unix.SYS_SPLICE: "splice", unix.SYS_TEE: "tee",
	unix.SYS_PIDFD_OPEN: "pidfd_open", unix.SYS_BIND: "bind", unix.SYS_RECVMSG: "recvmsg",
}

// Kinds are the names under which calls are counted, with the errors that Linux may
// return for reasons outside the caller's control: no descriptor, no memory, no
// room, a failing disk. Reading and writing an open pipe or socket fails only by what
// the other end does, so for these an interruption is all there is.
var Kinds = map[string][]unix.Errno{
	"open":       {unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EACCES, unix.EIO, unix.ENOSPC, unix.EINTR},
	"read file":  {unix.EIO, unix.EINTR},
	"read pipe":  {unix.EINTR},
	"read tty":   {unix.EIO, unix.EINTR},
	"read sock":  {unix.EINTR},
	"write file": {unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EINTR},
	"write pipe": {unix.EINTR},
	"write sock": {unix.EINTR},
	"getdents":   {unix.EIO},
	"pipe":       {unix.EMFILE, unix.ENFILE},
	"socket":     {unix.EMFILE, unix.ENFILE, unix.ENOBUFS},
	"connect":    {unix.ECONNREFUSED, unix.ENOENT, unix.EAGAIN},
	"accept":     {unix.EMFILE, unix.ENFILE, unix.ECONNABORTED, unix.EINTR},
	"bind":       {unix.EACCES, unix.ENOSPC},
	"recvmsg":    {unix.EINTR},
	"fork":       {unix.EAGAIN, unix.ENOMEM},
	"thread":     {unix.EAGAIN},
	"execve":     {unix.ENOENT, unix.EACCES, unix.ETXTBSY, unix.EAGAIN, unix.ENOMEM, unix.E2BIG},
	"fcntl dup":  {unix.EMFILE},
	"dup":        {unix.EINTR},
	"mkdir":      {unix.ENOSPC, unix.EROFS, unix.EDQUOT, unix.EACCES},
	"mknod":      {unix.ENOSPC, unix.EROFS},
	"unlink":     {unix.EROFS, unix.EIO, unix.EACCES},
	"rename":     {unix.ENOSPC, unix.EIO, unix.EROFS},
	"chmod":      {unix.EROFS, unix.EPERM},
	"truncate":   {unix.EIO, unix.ENOSPC},
	"fsync":      {unix.EIO},
	"mount":      {unix.ENOMEM, unix.EPERM},
	"umount":     {unix.EBUSY, unix.ENOMEM},
	"epoll_ctl":  {unix.ENOMEM, unix.ENOSPC},
	"splice":     {unix.EINTR, unix.ENOMEM},
	"tee":        {unix.EINTR, unix.ENOMEM},
	"pidfd_open": {unix.EMFILE, unix.ENOMEM},
}

// kind returns the name in Kinds of the notification's call, or one that is not in
// Kinds for a call that must not fail.
func (n *notification) kind() string {
	name := numbers[uint32(n.nr)]
	switch name {
	case "clone":
		if n.args[0]&unix.CLONE_THREAD != 0 {
			return "thread"
		}
		return "fork"
	case "fcntl":
		if c := n.args[1]; c != unix.F_DUPFD && c != unix.F_DUPFD_CLOEXEC {
			return ""
		}
		return "fcntl dup"
	case "read", "write":
		return name + " " + class(n.target(int(int32(n.args[0]))))
	}
	return name
}

// class returns the class of a descriptor, by its target in /proc/PID/fd.
func class(target string) string {
	switch {
	case strings.HasPrefix(target, "socket:"):
		return "sock"
	case strings.HasPrefix(target, "pipe:"):
		return "pipe"
	case strings.HasPrefix(target, "/dev/ptmx"), strings.HasPrefix(target, "/dev/pts/"):
		return "tty"
	}
	if info, err := os.Stat(target); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		return "pipe"
	}
	if strings.HasPrefix(target, "anon_inode:") {
		return "anon"
	}
	return "file"
}

// target returns what a descriptor of the calling thread refers to.
func (n *notification) target(fd int) string {
	t, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(int(n.pid)), "fd", strconv.Itoa(fd)))
	if err != nil {
		return "?"
	}
	return t
}

// describe returns the path or the descriptor of the call, for people to read.
func (n *notification) describe() string {
	switch numbers[uint32(n.nr)] {
	case "open", "mkdir", "mknod", "unlink", "rename", "chmod":
		if n.nr != unix.SYS_FCHMOD {
			return n.text(n.args[1])
		}
	case "execve", "umount":
		return n.text(n.args[0])
	case "mount":
		return n.text(n.args[1])
	case "clone", "pipe", "socket", "pidfd_open":
		return ""
	}
	return n.target(int(int32(n.args[0])))
}

// text returns the string at an address of the calling thread.
func (n *notification) text(address uint64) string {
	buf := make([]byte, 256)
	got, err := unix.ProcessVMReadv(int(n.pid), []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}},
		[]unix.RemoteIovec{{Base: uintptr(address), Len: len(buf)}}, 0)
	if err != nil {
		return "?"
	}
	s, _, _ := strings.Cut(string(buf[:got]), "\x00")
	return s
}
