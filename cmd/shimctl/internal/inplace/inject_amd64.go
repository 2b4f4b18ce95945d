// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
)

// code makes the system calls of the table at r12, and then returns from a signal
// whose frame is at rsp. The first argument of a fcntl is a list of descriptors, of four bytes
// each, whose end is a negative one: it is called for each. The code uses the registers that the
// kernel may change in a system call (rax, rcx, r11) and others, which the frame restores.
var code = []byte{
	0x49, 0x8b, 0x04, 0x24, //  0: mov rax, [r12]
	0x48, 0x85, 0xc0, //        4: test rax, rax
	0x78, 0x37, //              7: js 64
	0x49, 0x8b, 0x7c, 0x24, 8, //   9: mov rdi, [r12+8]
	0x49, 0x8b, 0x74, 0x24, 16, // 14: mov rsi, [r12+16]
	0x49, 0x8b, 0x54, 0x24, 24, // 19: mov rdx, [r12+24]
	0x4d, 0x8b, 0x54, 0x24, 32, // 24: mov r10, [r12+32]
	0x83, 0xf8, unix.SYS_FCNTL, // 29: cmp eax, fcntl
	0x75, 0x16, //             32: jne 56
	0x48, 0x89, 0xfb, //       34: mov rbx, rdi
	0x8b, 0x3b, //             37: mov edi, [rbx]
	0x85, 0xff, //             39: test edi, edi
	0x78, 0x0f, //             41: js 58
	0xb8, unix.SYS_FCNTL, 0, 0, 0, // 43: mov eax, fcntl
	0x0f, 0x05, //             48: syscall
	0x48, 0x83, 0xc3, 4, //    50: add rbx, 4
	0xeb, 0xed, //             54: jmp 37
	0x0f, 0x05, //             56: syscall
	0x49, 0x83, 0xc4, 40, //   58: add r12, 40
	0xeb, 0xc0, //             62: jmp 0
	0xb8, unix.SYS_RT_SIGRETURN, 0, 0, 0, // 64: mov eax, rt_sigreturn
	0x0f, 0x05, //             69: syscall
	0x0f, 0x0b, 0x0f, 0x0b, // 71: ud2, twice
}

// The first four are errors of the kernel that only a tracer sees (linux/errno.h):
// they say how an interrupted system call is to be restarted.
const (
	erestartSys      = -512
	erestartNoIntr   = -513
	erestartNoHand   = -514
	erestartBlock    = -516
	sysRestart       = 219 // restart_syscall(2)
	ucStrictSS       = 6   // UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
	badStackFlags    = 0x7fffffff
	syscallInsn      = 0x050f
	lenOfSyscallInsn = 2
)

// canExec reports whether the thread is stopped in a system call that can be restarted, or
// at its entry: the syscall instruction is there.
func (t *Tracee) canExec(tid int) bool {
	th := t.threads[tid]
	var r unix.PtraceRegs
	if th == nil || !th.stopped || th.cloning || th.group || unix.PtraceGetRegs(tid, &r) != nil || int64(r.Orig_rax) < 0 {
		return false
	}
	var insn [lenOfSyscallInsn]byte
	return ptrace.Read(t.PID, insn[:], uintptr(r.Rip-lenOfSyscallInsn)) && binary.LittleEndian.Uint16(insn[:]) == syscallInsn
}

// restored returns the registers with which the thread goes on if execve fails: what
// the kernel would have made of r after a signal. At the entry of a call that is the call
// itself, which has not begun.
func restored(r unix.PtraceRegs, entry bool) unix.PtraceRegs {
	if entry {
		r.Rax = r.Orig_rax
		r.Rip -= lenOfSyscallInsn
		return r
	}
	switch int64(r.Rax) {
	case erestartSys, erestartNoIntr, erestartNoHand:
		r.Rax = r.Orig_rax
		r.Rip -= lenOfSyscallInsn
	case erestartBlock:
		r.Rax = sysRestart
		r.Rip -= lenOfSyscallInsn
	}
	return r
}

// frame returns a ucontext for rt_sigreturn(2). The flags of its stack are invalid, so
// that the kernel leaves the thread's alternate stack as it is. It has no pointer to
// floating point state, so that the kernel clears that state, which Go does not
// expect to survive a system call.
func frame(r unix.PtraceRegs, mask uint64) []byte {
	b := make([]byte, ucontextSize)
	put := func(at int, v uint64) { binary.LittleEndian.PutUint64(b[at:], v) }
	put(0, ucStrictSS)
	binary.LittleEndian.PutUint32(b[24:], badStackFlags)
	for i, v := range []uint64{r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15,
		r.Rdi, r.Rsi, r.Rbp, r.Rbx, r.Rdx, r.Rax, r.Rcx, r.Rsp, r.Rip, r.Eflags} {
		put(40+8*i, v)
	}
	put(184, r.Cs&0xffff|r.Ss&0xffff<<48)
	put(296, mask)
	return b
}

// Exec makes the thread tid execute the image, by code that is written to text. The
// process must be stopped. Exec returns nil once the new program runs; the process is
// then detached. If the error is an ErrCommitted, the process runs the new program, or has
// ended in execve(2). Otherwise the old program is as it was, and still stopped.
//
// step is called before each step, with its name: before the commit with StepCommit.
func (t *Tracee) Exec(tid int, text Code, x *Image, step func(string)) error {
	if !t.canExec(tid) {
		return fmt.Errorf("%w: thread %d does not wait in a system call", ErrBusy, tid)
	}
	if text.Size < len(code) {
		return fmt.Errorf("the start-up code has %d bytes only", text.Size)
	}
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return os.NewSyscallError("ptrace getregs", err)
	}
	mask, err := ptrace.SignalMask(tid)
	if err != nil {
		return os.NewSyscallError("ptrace getsigmask", err)
	}
	base, room, err := t.stackBottom()
	if err != nil {
		return err
	}
	l := lay(uint64(base), x, mask, func(mask uint64) []byte { return frame(restored(r, t.threads[tid].entry), mask) })
	if err := l.fits(room); err != nil {
		return err
	}
	head, old := make([]byte, markSize), make([]byte, len(code))
	if !ptrace.Read(t.PID, head, base) || !ptrace.Read(t.PID, old, text.Addr) {
		return errors.New("the process's memory cannot be read")
	}
	left := leftover(head)
	was := make([]byte, max(min(left, uint64(room)), uint64(len(l.data))))
	if !ptrace.Read(t.PID, was, base) {
		return errors.New("the process's memory cannot be read")
	}
	if left > uint64(room) || slices.ContainsFunc(was[left:], func(b byte) bool { return b != 0 }) {
		return errors.New("the bottom of the stack is in use")
	}
	undo := func() { // if it fails, what remains is where nothing else is
		_ = ptrace.Write(t.PID, make([]byte, len(was)), base)
		_ = ptrace.Poke(tid, text.Addr, old)
	}
	step("data")
	if !ptrace.Write(t.PID, l.data, base) {
		undo()
		return errors.New("the stack cannot be written")
	}
	step("code")
	if err := ptrace.Poke(tid, text.Addr, code); err != nil {
		undo()
		return os.NewSyscallError("ptrace poke", err)
	}
	step(StepCommit)
	start := r
	start.Rip, start.Rsp, start.R12 = uint64(text.Addr), l.frame, l.table
	start.Orig_rax, start.Rax = ^uint64(0), 0 // no system call to restart, or to begin
	start.Eflags &^= 1 << 10                  // the direction flag
	if err := unix.PtraceSetRegs(tid, &start); err != nil {
		undo()
		return os.NewSyscallError("ptrace setregs", err)
	}
	// From here on the process gets there without us.
	step("mask")
	_ = ptrace.SetSignalMask(tid, ^uint64(0)) // if it fails, a signal handler does no harm
	step("continue")
	errno, err := t.follow(tid, uint64(text.Addr), step)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrCommitted, err)
	case errno == 0:
		return nil
	}
	undo()
	return &ExecError{x.Path, errno}
}

// follow lets the thread run the code, and returns the errno of execve, 0 if that has
// succeeded.
func (t *Tracee) follow(tid int, text uint64, step func(string)) (unix.Errno, error) {
	var failed unix.Errno
	th := t.threads[tid]
	returning := false
	th.inside = th.entry // the end of the call that does not begin is reported, too
	if err := ptrace.ToSyscall(tid, 0); err != nil {
		return 0, os.NewSyscallError("ptrace syscall", err)
	}
	for {
		who, status, err := ptrace.Wait(0)
		if err != nil {
			return 0, os.NewSyscallError("wait4", err)
		}
		if status.Stopped() && int(status)>>16 == unix.PTRACE_EVENT_EXEC {
			step("exec")
			t.threads = map[int]*thread{}
			return 0, os.NewSyscallError("ptrace detach", ptrace.Detach(t.PID, 0))
		}
		if who != tid {
			if status.Exited() || status.Signaled() { // execve ends all threads but one
				delete(t.threads, who)
			}
			continue
		}
		if !status.Stopped() {
			return 0, ErrGone
		}
		if status.StopSignal() == unix.SIGTRAP|0x80 {
			th.inside = !th.inside
			var r unix.PtraceRegs
			if err := unix.PtraceGetRegs(tid, &r); err != nil {
				return 0, os.NewSyscallError("ptrace getregs", err)
			}
			ours := r.Rip >= text && r.Rip < text+uint64(len(code)) // not a signal handler's call
			switch {
			case th.inside && ours && r.Orig_rax == unix.SYS_RT_SIGRETURN:
				returning = true
			case !th.inside && returning:
				return failed, nil
			case !th.inside && ours && r.Orig_rax == unix.SYS_EXECVE && int64(r.Rax) < 0:
				failed = unix.Errno(-int64(r.Rax))
			}
		} else if int(status)>>16 == 0 {
			th.signal = int(status.StopSignal()) // for when it goes on
		}
		if err := ptrace.ToSyscall(tid, 0); err != nil {
			return 0, os.NewSyscallError("ptrace syscall", err)
		}
	}
}
