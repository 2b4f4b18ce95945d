// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"containerd-shim.v1/proc"
	"containerd-shim.v1/shim"

	"golang.org/x/sys/unix"
)

// TestRecycleWhenItHelps: a program is recycled only if it has more memory than it may
// have, not if it has just taken over, and never again if that did not help.
func TestRecycleWhenItHelps(t *testing.T) {
	long, now := time.Now().Add(-2*recyclePause), time.Now()
	for name, c := range map[string]struct {
		recycle   uint64
		born      time.Time
		takesOver bool
		want      int
	}{
		"off":                    {0, time.Time{}, false, 0},
		"too large":              {1, time.Time{}, false, 1},
		"small enough":           {1 << 40, time.Time{}, false, 0},
		"too large, and old":     {1, long, false, 1},
		"too large, and new":     {1, now, false, 0},
		"too large at its start": {1, long, true, 0},
	} {
		p := &program{options: options{recycle: c.recycle}, grown: make(chan struct{}, 1)}
		p.sup = shim.NewSupervisor(t.Context(), &proc.Env{}, shim.NewOutbox(nil), shim.DefaultLimits)
		if c.takesOver {
			p.begun()
		}
		p.born = c.born
		p.giveBack()
		p.giveBack() // a second request is not queued
		if len(p.grown) != c.want {
			t.Errorf("%s: asked for %d times, want %d", name, len(p.grown), c.want)
		}
	}
}

func TestAnonymousMemory(t *testing.T) {
	const size = 64 << 20 // far more than the tests' own heap, which may shrink meanwhile
	before := anonymous()
	b, err := unix.Mmap(-1, 0, size, unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	if after := anonymous(); before == 0 || after < before+size/2 || after > 1<<34 {
		t.Errorf("%d bytes, and %d after using %d more", before, after, size)
	}
}
