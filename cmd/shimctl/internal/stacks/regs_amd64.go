// SPDX-License-Identifier: Apache-2.0

package stacks

import "golang.org/x/sys/unix"

// writeArgs reads the arguments of a thread that is at the entry of write(2).
func writeArgs(tid int) (addr uintptr, n int, ok bool) {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil || r.Orig_rax != unix.SYS_WRITE {
		return 0, 0, false
	}
	return uintptr(r.Rsi), int(r.Rdx), true
}
