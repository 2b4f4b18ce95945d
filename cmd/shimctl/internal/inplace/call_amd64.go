// SPDX-License-Identifier: Apache-2.0

package inplace

import "golang.org/x/sys/unix"

// Supported reports whether programs of this architecture can be exchanged.
const Supported = true

// callOf returns the system call at whose entry or exit a thread is stopped.
func callOf(tid int) (Call, error) {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return Call{}, err
	}
	return Call{TID: tid, Nr: r.Orig_rax, Args: [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}, Result: int64(r.Rax)}, nil
}

func stackPointer(tid int) (uintptr, error) {
	var r unix.PtraceRegs
	err := unix.PtraceGetRegs(tid, &r)
	return uintptr(r.Rsp), err
}
