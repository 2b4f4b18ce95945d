// SPDX-License-Identifier: Apache-2.0

//go:build baseline || ownshim

package main

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/internal/stackdump"
)

// started starts a shim.
func started(t *testing.T, binary string, args ...string) *shimtest.Shim {
	t.Helper()
	return shimtest.Start(t, binary, args...)
}

// taken is the dump of a running shim.
func taken(t *testing.T, shim *shimtest.Shim) *stackdump.Dump {
	t.Helper()
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	r, err := underTest().taker().Take(t.Context(), &s, stacks.Auto, 10*time.Second)
	if err != nil || !r.Dump.Complete {
		t.Fatalf("stacks: %v", err)
	}
	return r.Dump
}

// healthy wants no finding of a shim without work, were it so for an hour, nor
// of one at work.
func healthy(t *testing.T, binary string) {
	t.Helper()
	shim := started(t, binary)
	d := taken(t, shim)
	for i := range d.Goroutines {
		d.Goroutines[i].Since = time.Hour
	}
	if r := stackdump.Explain(d); len(r.Findings)+len(r.Ongoing) > 0 {
		t.Errorf("idle: got %+v %+v", r.Findings, r.Ongoing)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range 4 {
		work.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				if err := shim.ExecOnce(ctx, fmt.Sprintf("e%d-%d", i, j)); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	ongoing := 0
	for range 30 {
		r := stackdump.Explain(taken(t, shim))
		if len(r.Findings) > 0 {
			t.Errorf("at work: got %+v", r.Findings)
		}
		ongoing += len(r.Ongoing)
	}
	cancel()
	work.Wait()
	if ongoing == 0 {
		t.Error("no runc is seen at work: the test proves nothing, or the names have changed")
	}
}
