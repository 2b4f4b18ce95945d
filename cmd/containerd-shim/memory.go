// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
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
			debug.FreeOSMemory()
		}
	}()
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
