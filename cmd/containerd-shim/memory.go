// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"containerd-shim/shim"

	"github.com/containerd/ttrpc"
)

const (
	// gcPercent keeps the heap small; there is hardly any garbage to collect.
	gcPercent = 40
	// quiet is how long no call must have come for memory to be given back.
	quiet = 10 * time.Second
)

// activity holds a token when a call has come since memory was last given
// back; capacity 1.
var activity = make(chan struct{}, 1)

// tuneMemory keeps one of many shims on a host small. Memory goes back to the
// system once after each burst of calls, not periodically: an idle shim does
// not wake up.
func tuneMemory() {
	debug.SetGCPercent(gcPercent)
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2) // each P has caches, each M stacks
	}
	touch()
	go func() {
		for range activity {
			for settled := false; !settled; {
				timer := time.NewTimer(quiet)
				select {
				case <-activity:
					// Still busy; look again after a while, not at each call.
					<-timer.C
				case <-timer.C:
					settled = true
				}
			}
			giveBack()
		}
	}()
}

// keepThreads is how many threads an idle shim needs, roughly.
const keepThreads = 8

// shedThreads ends threads that a burst has left idle: the Go runtime keeps
// each for good, with 48 KiB of stacks. It ends a thread whose goroutine ends
// while locked to it (runtime.LockOSThread), and as many goroutines as that at
// once need as many threads.
func shedThreads() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil || len(tasks) <= keepThreads {
		return
	}
	excess := len(tasks) - keepThreads
	var locked sync.WaitGroup
	locked.Add(excess)
	for range excess {
		go func() {
			runtime.LockOSThread()
			locked.Done()
			locked.Wait()
		}()
	}
	locked.Wait()
}

// giveBack returns to the system what a burst has left behind: idle threads,
// the stacks of ended goroutines, and free heap.
func giveBack() {
	shedThreads()
	// The runtime caches up to 64 ended goroutines with their stacks for each
	// P, spread over as many spans, and frees only those of the global list.
	// Taking a P away moves its cache there; the other one's is used up by
	// goroutines whose stacks grow, for only stacks of the usual size are kept.
	procs := runtime.GOMAXPROCS(1)
	var here sync.WaitGroup
	here.Add(cachedGoroutines)
	for range cachedGoroutines {
		go func() {
			growStack(0)
			here.Done()
			here.Wait()
		}()
	}
	here.Wait()
	debug.FreeOSMemory()
	runtime.GOMAXPROCS(procs)
}

// cachedGoroutines is the size of the runtime's cache of ended goroutines.
const cachedGoroutines = 64

// growStack makes its goroutine's stack larger than the runtime would begin with.
//
//go:noinline
func growStack(n byte) byte {
	var frame [24 << 10]byte
	frame[n] = n
	return frame[len(frame)-1-int(n)]
}

func touch() {
	select {
	case activity <- struct{}{}:
	default:
	}
}

// intercept notes that a call has come, and has gone.
func intercept(ctx context.Context, u ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, m ttrpc.Method) (any, error) {
	touch()
	defer touch()
	return shim.Interceptor(ctx, u, info, m)
}
