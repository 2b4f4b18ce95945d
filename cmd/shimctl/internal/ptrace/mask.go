// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"syscall"
	"unsafe"
)

// Not in x/sys: linux/ptrace.h.
const (
	getSignalMask = 0x420a
	setSignalMask = 0x420b
)

func requestMask(what, tid int, mask *uint64) error {
	_, _, e := syscall.RawSyscall6(syscall.SYS_PTRACE, uintptr(what), uintptr(tid), unsafe.Sizeof(*mask), uintptr(unsafe.Pointer(mask)), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
