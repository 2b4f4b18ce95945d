// SPDX-License-Identifier: Apache-2.0

// Command fakeshim listens as a shim does and never answers, with one thread
// in uninterruptible sleep: it has called vfork, and its child stays in
// poll(2). It dies with its parent, and its child with it.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		return err
	}
	defer l.Close()
	if err := os.WriteFile("address", []byte("unix://"+dir+"/s"), 0o600); err != nil {
		return err
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1)
	fmt.Println("ready")
	runtime.LockOSThread()
	// No CLONE_VM: the child has its own memory and cannot do harm.
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, syscall.CLONE_VFORK|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
		for {
			_, _, _ = syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
		}
	}
	return nil // the child was killed
}
