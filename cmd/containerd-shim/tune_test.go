// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestThreadsAreMade is F16: the threads exist before they are needed, and stay.
func TestThreadsAreMade(t *testing.T) {
	const n = 30
	makeThreads(n)
	runtime.GC()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil || len(tasks) < n {
		t.Errorf("%d threads, %v, want %d at least", len(tasks), err, n)
	}
}

// TestMemoryIsGivenBackAfterABurst: memory is given back once, in a pause after many
// calls, but not after a few.
func TestMemoryIsGivenBackAfterABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(chan struct{})
		var freed atomic.Int32
		go giveBack(calls, quiet, func() { freed.Add(1) })
		step := func(n int, pause time.Duration, want int32) {
			for range n {
				calls <- struct{}{}
			}
			<-time.After(pause) // in fake time
			synctest.Wait()
			if got := freed.Load(); got != want {
				t.Errorf("%d calls and %v later: given back %d times, want %d", n, pause, got, want)
			}
		}
		step(burst-1, time.Hour, 0)
		step(1, quiet-1, 0)
		step(burst, quiet-1, 0)
		step(0, 1, 1)
		step(burst-1, time.Hour, 1)
		close(calls)
	})
}
