// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

const (
	// streamLimit bounds the waits for some execs under load.
	streamLimit = 2 * time.Minute
	// streams run at once: there is hardly a moment without a call of the runtime.
	streams = 4
	// swapPatience is an operator's, who tries again within streamLimit.
	swapPatience = 10 * time.Second
)

// TestSwapUnderExecs exchanges shims of every release under a stream of execs: each exec ends
// with its own status, and its exit is told once, or twice if it was on its way then. SHIMS is how many of each release.
func TestSwapUnderExecs(t *testing.T) {
	shims, err := strconv.Atoi(os.Getenv("SHIMS"))
	if err != nil {
		shims = 1
	}
	for _, version := range builds("v1.1.2", "v1.2.0", "v1.2.6", "v1.2.13", "v1.6.38", "v1.7.35", "debian") {
		t.Run(version, func(t *testing.T) {
			for n := range shims {
				t.Run(strconv.Itoa(n), func(t *testing.T) { swapUnderExecs(t, version) })
			}
		})
	}
}

func swapUnderExecs(t *testing.T, version string) {
	shim := started(t, shimtest.Baseline(t, version))
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	var ran atomic.Int32
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for worker := range streams {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				c := &client{id: fmt.Sprintf("e%d-%d", worker, i), status: 1 + i%200}
				ran.Add(1)
				// One that ends before its Start has returned is B19, a fault of upstream's.
				spec := fmt.Sprintf(`{"user":{"uid":0,"gid":0},"args":["testinit","sleep:100ms","exit:%d"],"cwd":"/"}`, c.status)
				if err := shim.Create(t.Context(), c.id, []byte(spec)); err != nil {
					t.Errorf("%s: exec: %v", c.id, err)
				} else if err := c.start(t.Context(), shim.API); err != nil {
					t.Errorf("%s: %v", c.id, err)
				}
			}
		})
	}
	before := func(n int32) func() bool { return func() bool { return ran.Load() >= n } }
	shimtest.Until(t, streamLimit, "execs", before(10))
	from, end, tries := ran.Load(), time.Now().Add(streamLimit), 0
	var o *takeover.Outcome
	var err error
	for busy := true; busy; tries++ {
		o, err = underTest().tracer().Swap(t.Context(), &s, shimtest.Own(t), "", false, swapPatience)
		busy = err != nil && o != nil && o.Busy && time.Now().Before(end)
	}
	if err != nil {
		t.Errorf("swap: %v %+v", err, o)
	} else {
		t.Logf("try %d: stood still for %v, calls held for %v, with %d of them unanswered; %d execs meanwhile", tries, o.Stopped, o.Held, len(o.Report.Requests), ran.Load()-from)
	}
	shimtest.Until(t, streamLimit, "more execs", before(ran.Load()+10))
	stop()
	wg.Wait()
	told := map[string]int{}
	shimtest.Until(t, streamLimit, "every exit", func() bool {
		clear(told)
		for _, e := range shim.Events.Events() {
			if e.Exit != nil {
				told[e.ID]++
			}
		}
		return len(told) >= int(ran.Load())
	})
	// An event that is on its way at that moment may have arrived or not: the exits of execs that
	// are not deleted yet are told again. Each stream has one at most.
	twice := 0
	for id, times := range told {
		if times > 2 {
			t.Errorf("the exit of %s was told %d times", id, times)
		}
		if times == 2 {
			twice++
		}
	}
	limit := 0
	if o != nil && o.Report != nil && strings.Contains(strings.Join(o.Report.Lost, " "), "sent again") {
		limit = streams
	}
	if twice > limit {
		t.Errorf("%d exits were told twice, at most %d of them were on their way", twice, limit)
	}
	if len(told) != int(ran.Load()) {
		t.Errorf("%d exits were told, %d execs ran", len(told), ran.Load())
	}
	lifeGoesOn(t, shim)
}
