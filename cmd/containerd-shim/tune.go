// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"containerd-shim.v1/shim"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

const (
	// spareThreads is how many threads the shim makes before it needs them. At a
	// limit of processes (pids cgroup, RLIMIT_NPROC) the Go runtime cannot make
	// another one and ends the program. It makes one when goroutines are ready to
	// run while all threads are in system calls, and keeps each for good. Fewer are
	// not enough for forty execs at once at a limit, and each costs memory; see
	// ARCHITECTURE.md, Memory and threads, for the measurements.
	spareThreads = 10
	// burst is the number of calls after which memory is given back. A garbage
	// collection costs 700 KB for good, more than the garbage of a few calls.
	burst = 100
	// quiet is how long no call may have come before memory is given back.
	quiet = 10 * time.Second
)

// tuneRuntime keeps a shim, of which a host has many, small, and makes the spare
// threads. The returned interceptor must see every call; free is called in a pause
// after many calls.
func tuneRuntime(free func()) ttrpc.UnaryServerInterceptor {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2) // each has caches of its own
	}
	makeThreads(spareThreads)
	touchSignalStacks()
	calls := make(chan struct{}, burst) // a call never waits to be counted
	go giveBack(calls, quiet, free)
	return func(ctx context.Context, u ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, m ttrpc.Method) (any, error) {
		defer func() {
			select {
			case calls <- struct{}{}:
			default:
			}
		}()
		return shim.Interceptor(ctx, u, info, m)
	}
}

// giveBack calls free each time burst calls have come and then none for quiet, until
// calls is closed. It has no timer while the shim is idle.
func giveBack(calls <-chan struct{}, quiet time.Duration, free func()) {
	for {
		for range burst {
			if _, ok := <-calls; !ok {
				return
			}
		}
		timer := time.NewTimer(quiet)
		for settled := false; !settled; {
			select {
			case <-calls:
				timer.Reset(quiet)
			case <-timer.C:
				settled = true
			}
		}
		free()
	}
}

// makeThreads makes the Go runtime have n threads or more, by locking n goroutines
// to threads at the same time. The runtime keeps the threads.
func makeThreads(n int) {
	var locked, ended sync.WaitGroup
	locked.Add(n)
	for range n {
		ended.Go(func() {
			runtime.LockOSThread()
			locked.Done()
			locked.Wait()
			runtime.UnlockOSThread() // or the thread would end with the goroutine
		})
	}
	ended.Wait()
}

// touchSignalStacks sends a signal to each thread there is, so that the page of its
// signal stack that the kernel writes a signal's frame to exists. Where a memory cgroup
// has none left and may kill nobody (memory.oom_control; before Linux 4.19 any), the
// kernel does not wait for that page, and ends the process by SIGSEGV. SIGURG is the
// one that the Go runtime stops goroutines by, and expects at any time.
func touchSignalStacks() {
	tasks, _ := os.ReadDir("/proc/self/task") // without /proc no runc runs, either
	if !pagesAreThere(2 * len(tasks)) {       // a frame may lie on two
		return
	}
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); err == nil {
			_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG) // it may have ended
		}
	}
}

// pagesAreThere reports whether the kernel has n pages for what it writes itself, as it
// does for a signal: where there are none, read(2) fails and does not wait (EFAULT).
func pagesAreThere(n int) bool {
	b, err := unix.Mmap(-1, 0, n*os.Getpagesize(), unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Munmap(b) }() // it was mapped
	zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(zero) }() // it was only read
	read, err := unix.Read(zero, b)
	return err == nil && read == len(b)
}
