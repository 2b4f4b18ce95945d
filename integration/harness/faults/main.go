// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Name is the argv[0] with which the helper must call Main.
const Name = "faultline"

// Main is run by Start in a process of its own. It installs the filter on one
// thread, sends the filter's descriptor to Start, and executes the program on that
// thread, so that the program has the filter and the pid. args are Name, the number of
// the socket's descriptor, the program's file, and the program's arguments, beginning
// with argv[0]. It returns an exit status if it fails.
func Main(args []string) int {
	fail := func(what string, err error) int {
		fmt.Fprintf(os.Stderr, "%s: %s: %v\n", Name, what, err)
		return 70
	}
	runtime.LockOSThread()
	fd, err := strconv.Atoi(args[1])
	if err != nil {
		return fail("socket", err)
	}
	filter, err := install()
	if err != nil {
		return fail("seccomp", err)
	}
	if err := unix.Sendmsg(fd, []byte{0}, unix.UnixRights(filter), nil, 0); err != nil { // the filter lets sendmsg(2) pass
		return fail("sendmsg", err)
	}
	if _, err := unix.Read(fd, make([]byte, 1)); err != nil { // the first call that is served
		return fail("read", err)
	}
	_ = unix.Close(filter) // cannot fail: both are open
	_ = unix.Close(fd)
	return fail("execve", unix.Exec(args[2], args[3:], os.Environ()))
}

// install puts the filter on the calling thread, and returns the descriptor from
// which its notifications are read.
func install() (int, error) {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	program := []unix.SockFilter{
		load(4), // struct seccomp_data: nr, arch
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: arch, Jt: 1},
		allow,
		load(0),
	}
	var nrs []uint32
	for nr := range numbers {
		nrs = append(nrs, nr)
	}
	slices.Sort(nrs)
	for k, nr := range nrs {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: uint8(len(nrs) - k)})
	}
	program = append(program, allow, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}
