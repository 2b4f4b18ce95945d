// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package stacks

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/internal/stackdump"
)

// What a client of the shim feels while its stacks are taken: the slowest of
// many ShimInfo calls, without a capture, with ours, and with strace's.
func TestStallBesideStrace(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.0"))
	s := scanned(t, shim.PID)
	const rounds = 20
	log := filepath.Join(t.TempDir(), "strace")
	var idle, ours, strace []time.Duration
	for range rounds { // in turn: a busy machine slows all of them
		idle = append(idle, stall(t, shim, func() { spin(20 * time.Millisecond) }))
		ours = append(ours, stall(t, shim, func() {
			if r, err := taker(t).Take(t.Context(), s, Ptrace, limit); err != nil || !r.Dump.Complete {
				t.Errorf("got %+v, %v", r, err)
			}
		}))
		strace = append(strace, stall(t, shim, func() { straced(t, shim, log) }))
	}
	for _, all := range [][]time.Duration{idle, ours, strace} {
		slices.Sort(all)
	}
	t.Logf("slowest ShimInfo during each of %d captures, median and worst: idle %v %v, ours %v %v, strace %v %v", rounds,
		idle[rounds/2], idle[rounds-1], ours[rounds/2], ours[rounds-1], strace[rounds/2], strace[rounds-1])
	if ours[rounds/2] > strace[rounds/2]+10*time.Millisecond {
		t.Errorf("the shim stalls longer than under strace: %v, %v", ours[rounds/2], strace[rounds/2])
	}
}

// straced takes a dump as strace sees it written, into the file log.
func straced(t *testing.T, shim *shimtest.Shim, log string) {
	t.Helper()
	_ = os.Remove(log)
	cmd := exec.Command("strace", "-f", "-e", "trace=write", "-s", "20000000", "-o", log, "-p", strconv.Itoa(shim.PID))
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	shimtest.Until(t, limit, "strace to have all threads", func() bool { return traced(shim.PID) })
	if err := syscall.Kill(shim.PID, syscall.SIGUSR1); err != nil {
		t.Error(err)
	}
	shimtest.Until(t, limit, "strace to have it", func() bool {
		b, _ := os.ReadFile(log)
		return bytes.Contains(b, []byte(stackdump.EndMark))
	})
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait() // it ends by our signal
}

// traced reports whether every thread is: strace attaches to one after another,
// and the one that writes may be the last.
func traced(pid int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte("TracerPid:\t0\n")) {
			return false
		}
	}
	return len(files) > 0
}

// stall returns how long the slowest of many ShimInfo calls took while do ran.
func stall(t *testing.T, shim *shimtest.Shim, do func()) time.Duration {
	t.Helper()
	api := shim.Dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	slowest := make(chan time.Duration, 1)
	go func() {
		var worst time.Duration
		for ctx.Err() == nil {
			start := time.Now()
			if _, err := api.ShimInfo(t.Context(), &emptypb.Empty{}); err != nil {
				break
			}
			worst = max(worst, time.Since(start))
		}
		slowest <- worst
	}()
	do()
	cancel()
	return <-slowest
}
