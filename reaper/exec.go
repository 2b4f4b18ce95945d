// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigSetmask is SIG_SETMASK (asm-generic/signal-defs.h).
const sigSetmask = 2

// Exec replaces the program of this process (execve(2)). The process keeps its
// children, and the descriptors in keep. Exec returns only if that fails, and then
// nothing has changed; ctx bounds the wait for forks that are underway.
//
// It runs on the forking thread: execve ends all other threads, and children with a
// death signal live as long as the thread whose children they are; see Forker. All
// signals but SIGURG are blocked for the new program; meanwhile they stay pending.
// (SIGURG does nothing by default, and the Go runtime needs it.) What it starts must
// not inherit that mask (see Forker.Run); a Go program unblocks a signal when it asks to
// be notified of it, and those that end a program, such as SIGTERM, as it begins.
//
// Until execve has ended the other threads, one of them may still take a signal.
// Such a signal comes from ends, where all mean the same, and is kept for whichever
// program runs next; see Redeliver.
func (r *Reaper) Exec(ctx context.Context, path string, args, env []string, keep []int, ends <-chan os.Signal) (err error) {
	if e := r.forks.do(ctx, func() { err = r.forks.execute(path, args, env, keep, ends) }); e != nil {
		return e
	}
	return err
}

// execute is Exec on the forking thread.
func (f *Forker) execute(path string, args, env []string, keep []int, ends <-chan os.Signal) error {
	var mask, all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	all.Val[0] &^= 1 << (unix.SIGURG - 1)
	if err := unix.PthreadSigmask(sigSetmask, &all, &mask); err != nil {
		return err
	}
	defer func() { _ = unix.PthreadSigmask(sigSetmask, &mask, nil) }() // it was so before
	defer hold(ends)()
	defer func() { _ = closeOnExec(keep, unix.FD_CLOEXEC) }() // they are open, or there is an error
	if err := closeOnExec(keep, 0); err != nil {
		return err
	}
	files, limitErr := setFiles(nil)
	err := syscall.Exec(path, args, env)
	if limitErr == nil {
		if lowered, e := setFiles(&files); e == nil && lowered != files {
			f.files = &lowered
		}
	}
	return os.NewSyscallError("execve", err)
}

// heldSignal stands for those that Exec holds, pending for the thread that executes:
// the last of the real-time signals, which Go leaves blocked.
const heldSignal = unix.Signal(64)

// hold makes heldSignal pending for the calling thread, where it is blocked, once a
// signal comes from ends. If the execve(2) fails, release delivers it.
func hold(ends <-chan os.Signal) (release func()) {
	tid, held := unix.Gettid(), false
	note := func() { held = unix.Tgkill(os.Getpid(), tid, heldSignal) == nil } // the thread is there
	select {
	case <-ends:
		note()
	default:
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ends:
				note()
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		if held {
			resend()
		}
	}
}

// Redeliver is called by a program that Exec has executed, once its handlers are up:
// what was held comes as a SIGTERM.
func Redeliver() {
	if pending(fmt.Sprintf("/proc/self/task/%d/status", os.Getpid()), heldSignal) {
		resend()
	}
}

func resend() { _ = unix.Kill(os.Getpid(), unix.SIGTERM) } // a process may always signal itself

// pending reports whether sig is pending for a thread alone, by its status in /proc.
func pending(status string, sig unix.Signal) bool {
	text, _ := os.ReadFile(status) // without /proc nothing is known
	_, after, _ := strings.Cut(string(text), "\nSigPnd:\t")
	hex, _, _ := strings.Cut(after, "\n")
	set, _ := strconv.ParseUint(hex, 16, 64) // 0 without the line
	return set&(1<<(sig-1)) != 0
}

// setFiles sets RLIMIT_NOFILE, if l is not nil, and returns what it was. That of
// package syscall would also end what it does for children: see Forker.
func setFiles(l *unix.Rlimit) (was unix.Rlimit, err error) {
	_, _, e := unix.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE,
		uintptr(unsafe.Pointer(l)), uintptr(unsafe.Pointer(&was)), 0, 0)
	if e != 0 {
		return was, e
	}
	return was, nil
}

func closeOnExec(fds []int, flag int) (err error) {
	for _, fd := range fds {
		if _, e := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag); e != nil && err == nil {
			err = fmt.Errorf("descriptor %d: %w", fd, os.NewSyscallError("fcntl", e))
		}
	}
	return err
}
