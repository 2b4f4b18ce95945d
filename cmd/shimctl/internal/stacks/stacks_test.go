// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package stacks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/internal/stackdump"
)

func scanned(t testing.TB, pid int) *scan.Shim {
	t.Helper()
	s, ok := scan.One("/proc", pid, 0)
	if !ok {
		t.Fatalf("pid %d is not seen as a shim", pid)
	}
	return &s
}

// taker traces with a static program, as it is in use: this test binary takes a
// second to start under the race detector.
func taker(t *testing.T) Taker {
	t.Helper()
	return Taker{Proc: "/proc", Program: shimtest.Shimctl(t)}
}

func TestEachMethodOnEachRelease(t *testing.T) {
	for _, version := range []string{"v1.1.2", "v1.2.0", "v1.2.6", "v1.2.13", "v1.6.38", "v1.7.35", "debian"} {
		for _, m := range []Method{Ptrace, Scrape, FIFO, Auto} {
			if m == FIFO && version < "v1.2.7" && version != "v1.2.13" {
				continue // logs to its standard error, which is /dev/null
			}
			t.Run(version+"/"+string(m), func(t *testing.T) {
				shim := shimtest.Start(t, shimtest.Baseline(t, version))
				r, err := taker(t).Take(t.Context(), scanned(t, shim.PID), m, limit)
				if err != nil {
					t.Fatal(err)
				}
				if !r.Dump.Complete || len(r.Dump.Goroutines) < 5 {
					t.Errorf("got %d goroutines, complete %v (%s)", len(r.Dump.Goroutines), r.Dump.Complete, r.Dump.Why)
				}
				if m == Auto && r.Method != Ptrace {
					t.Errorf("auto took %s: %v", r.Method, r.Notes)
				}
				if !shim.Answers() {
					t.Error("the shim does not answer any more")
				}
			})
		}
	}
}

func TestWedgedShimIsExplained(t *testing.T) {
	for _, version := range []string{"v1.1.2", "v1.2.0"} {
		t.Run(version, func(t *testing.T) {
			shim := shimtest.Start(t, shimtest.Baseline(t, version))
			shim.Wedge(t)
			r, err := taker(t).Take(t.Context(), scanned(t, shim.PID), Auto, limit)
			if err != nil {
				t.Fatal(err)
			}
			report := stackdump.Explain(r.Dump)
			if !r.Dump.Complete || len(report.Findings) == 0 || report.Findings[0].Reason != "ReaperDeadlock" {
				t.Errorf("got %+v, complete %v", report.Findings, r.Dump.Complete)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.0"))
	good := scanned(t, shim.PID)

	notGo := &scan.Shim{PID: sleep.Process.Pid, State: "S"}
	deaf := *good
	deaf.SigCgt = 0
	traced := *good
	traced.Tracer = os.Getpid()
	for name, s := range map[string]*scan.Shim{"not Go": notGo, "deaf": &deaf, "traced": &traced} {
		_, err := taker(t).Take(t.Context(), s, Ptrace, limit)
		var refused *Refused
		if !errors.As(err, &refused) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	if syscall.Kill(sleep.Process.Pid, 0) != nil {
		t.Error("the process that is no shim got a signal")
	}
	if err := syscall.Kill(shim.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	shimtest.Until(t, limit, "state T", func() bool { return scanned(t, shim.PID).State == "T" })
	if _, err := taker(t).Take(t.Context(), scanned(t, shim.PID), Auto, limit); err == nil {
		t.Error("a stopped shim was not refused")
	}
	if err := syscall.Kill(shim.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	recycled := *good
	recycled.StartTicks++
	if _, err := taker(t).Take(t.Context(), &recycled, Scrape, limit); err == nil {
		t.Error("a recycled pid was signalled")
	}
}

// strace is a tracer that is there already: the memory is read instead.
func TestTracedShimIsScraped(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.0"))
	strace := exec.Command("strace", "-f", "-o", "/dev/null", "-p", strconv.Itoa(shim.PID))
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = strace.Process.Signal(os.Interrupt); _ = strace.Wait() }()
	shimtest.Until(t, limit, "strace to attach", func() bool { return scanned(t, shim.PID).Tracer != 0 })
	r, err := taker(t).Take(t.Context(), scanned(t, shim.PID), Auto, limit)
	if err != nil || r.Method != Scrape || !r.Dump.Complete {
		t.Fatalf("got %+v, %v", r, err)
	}
}

// The issue asks for 500 complete captures under exec load.
func TestCapturesUnderExecLoad(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.6.38"))
	ctx, cancel := context.WithCancel(t.Context())
	execs := make(chan int, 1) // how many were started, once
	go func() {
		n := 0
		for ctx.Err() == nil {
			if err := shim.ExecOnce(ctx, fmt.Sprintf("e%d", n)); err != nil {
				if ctx.Err() == nil {
					t.Errorf("exec %d: %v", n, err)
				}
				break
			}
			n++
		}
		execs <- n
	}()
	count := 500
	if n, err := strconv.Atoi(os.Getenv("CAPTURES")); err == nil {
		count = n
	}
	var total, longest []time.Duration
	s := scanned(t, shim.PID)
	for i := range count {
		start := time.Now()
		r, err := taker(t).Take(ctx, s, Ptrace, limit)
		if err != nil || !r.Dump.Complete {
			t.Fatalf("capture %d: %+v, %v", i, r, err)
		}
		total, longest = append(total, time.Since(start)), append(longest, r.Trace.Longest)
	}
	cancel()
	n := <-execs
	slices.Sort(total)
	slices.Sort(longest)
	t.Logf("%d captures, all complete, during %d execs: median %v, slowest %v; longest stop of a thread: median %v, worst %v",
		count, n, total[count/2], total[count-1], longest[count/2], longest[count-1])
	if n == 0 {
		t.Error("no exec was started meanwhile")
	}
}

// A tracer killed at any moment must leave the shim running.
func TestTracerKilledAtAnyMoment(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.0"))
	s := scanned(t, shim.PID)
	midway := 0
	for i := range 100 {
		cmd := exec.Command(taker(t).Program, TracerArg, strconv.Itoa(s.PID), strconv.FormatUint(s.StartTicks, 10))
		if killed(t, shim, cmd, i%2 == 0) { // half of them somewhere after the attach
			midway++
		}
	}
	t.Logf("killed 100 tracers, %d of them while attached", midway)
	if midway < 10 {
		t.Errorf("only %d of 100 were killed while attached: the test tests nothing", midway)
	}
	if r, err := taker(t).Take(t.Context(), s, Ptrace, limit); err != nil || !r.Dump.Complete {
		t.Errorf("no capture afterwards: %v", err)
	}
}

// SIGKILL of shimctl itself takes the tracer along.
func TestShimctlKilledAtAnyMoment(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.0"))
	midway := 0
	for range 40 {
		if killed(t, shim, exec.Command(taker(t).Program, "stacks", "-method", "ptrace", "-summary", strconv.Itoa(shim.PID)), true) {
			midway++
		}
	}
	t.Logf("killed 40 shimctls, %d of them while the shim was traced", midway)
	if midway < 3 {
		t.Error("too few of them: the test tests nothing")
	}
}

// killed starts cmd and kills it at a random moment within a millisecond, counted
// from the attach if it waits for that. It wants a shim that runs, and reports
// whether it was traced at that moment.
func killed(t *testing.T, shim *shimtest.Shim, cmd *exec.Cmd, afterAttach bool) (traced bool) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if afterAttach {
		attached(t, shim.PID)
	}
	spin(time.Duration(rand.Int64N(int64(time.Millisecond))))
	if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", shim.PID)); !strings.Contains(string(b), "TracerPid:\t0\n") {
		traced = true
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // "signal: killed" is what we did
	shimtest.Until(t, limit, "the shim to be released", func() bool { return released(shim.PID) })
	if !shim.Runs() {
		t.Fatal("the shim does not answer")
	}
	return traced
}

// attached waits until a tracer is there, or it has gone again.
func attached(t *testing.T, pid int) {
	deadline := time.Now().Add(time.Second)
	for time.Now().Before(deadline) {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err != nil || !strings.Contains(string(b), "TracerPid:\t0\n") {
			return
		}
	}
}

// spin passes a time too short for the scheduler to keep.
func spin(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// released reports whether no thread is traced or stopped.
func released(pid int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		if !strings.Contains(string(b), "TracerPid:\t0\n") || strings.Contains(string(b), "State:\tt") || strings.Contains(string(b), "State:\tT") {
			return false
		}
	}
	return len(files) > 0
}

// The watchdog ends a tracer whose shim writes nothing.
func TestTracerEndsAtItsLimit(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.0"))
	deaf := scanned(t, shim.PID)
	// A stopped shim never writes, so that the tracer waits for ever.
	if err := syscall.Kill(shim.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := taker(t).trace(ctx, deaf); err == nil {
		t.Error("got a dump of a stopped shim")
	}
	if err := syscall.Kill(shim.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	shimtest.Until(t, limit, "the shim to run", func() bool { return released(shim.PID) && shim.Runs() })
}
