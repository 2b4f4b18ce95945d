// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// sigSetmask is SIG_SETMASK (asm-generic/signal-defs.h).
const sigSetmask = 2

// Exec replaces the program of this process (execve(2)). The process keeps its
// children, and the descriptors in keep. Exec returns only if that fails, and then
// nothing has changed; ctx bounds the wait for forks that are underway.
//
// It runs on the forking thread: execve ends all other threads, and children that
// were forked there with a death signal live as long as that thread does. All
// signals but SIGURG are blocked for the new program, because most would end it
// before its handlers are installed; meanwhile they stay pending. What it starts
// must not inherit that mask (see forker); a Go program unblocks a signal when it
// asks to be notified of it. SIGURG does nothing by default, and the Go runtime
// needs it.
func (r *Reaper) Exec(ctx context.Context, path string, args, env []string, keep []int) (err error) {
	var limit syscall.Rlimit
	limitErr := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if e := r.forks.do(ctx, func() {
		var mask, all unix.Sigset_t
		for i := range all.Val {
			all.Val[i] = ^uint64(0)
		}
		all.Val[0] &^= 1 << (unix.SIGURG - 1)
		if err = unix.PthreadSigmask(sigSetmask, &all, &mask); err != nil {
			return
		}
		if err = closeOnExec(keep, 0); err == nil {
			err = os.NewSyscallError("execve", syscall.Exec(path, args, env))
		}
		_ = closeOnExec(keep, unix.FD_CLOEXEC)          // they are open, or err says so
		_ = unix.PthreadSigmask(sigSetmask, &mask, nil) // it was so before
	}); e != nil {
		return e
	}
	if limitErr == nil {
		// syscall.Exec has lowered the limit to what the process was started with.
		// Where that was less, children have this one from now on.
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // it was so before
	}
	return err
}

func closeOnExec(fds []int, flag int) (err error) {
	for _, fd := range fds {
		if _, e := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag); e != nil && err == nil {
			err = fmt.Errorf("descriptor %d: %w", fd, os.NewSyscallError("fcntl", e))
		}
	}
	return err
}
