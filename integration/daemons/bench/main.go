// SPDX-License-Identifier: Apache-2.0

// Command bench measures shims, one after the other, each under a real containerd of
// its own: anonymous memory when idle and after a flood of execs, and how many of the
// execs failed. With -tempo it measures instead how long an exec takes, how long an
// exit takes to arrive, and what copying output costs; with -crowd, many execs at once
// beside as many runc exec. With -check it exits with status 1 if the first shim
// misses a target. Status 2: something could not be measured, or was left behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"containerd-shim.v1/integration/daemons"
	"containerd-shim.v1/integration/harness/session"
)

// Targets of the shim under test, in bytes of Anonymous in smaps_rollup.
const (
	idleTarget  = 2.0 * (1 << 20)
	afterTarget = 3.0 * (1 << 20)
	// idleAge is how long a shim that has started its container is left alone
	// before it counts as idle.
	idleAge = 5 * time.Second
	// shrinkLimit is how long the memory may take to come down after the flood.
	shrinkLimit = time.Minute
)

// figures are those of one shim.
type figures struct {
	shim   string
	idle   int64
	after  int64         // shrinkLimit after the flood's end
	within time.Duration // from the flood's end to when the target was first met; at most shrinkLimit
	report *daemons.Report
}

func main() {
	shims := flag.String("shims", "bin/containerd-shim,/usr/bin/containerd-shim", "comma-separated shims, the one under test first")
	n := flag.Int("n", 400, "how many execs at once")
	waves := flag.Int("waves", 1, "how many floods of -n, one after the other")
	crowd := flag.Bool("crowd", false, "measure -n execs at once over the first shim's socket, beside as many runc exec")
	speed := flag.Bool("tempo", false, "measure times instead of floods")
	started := flag.Int("starts", 0, "measure the memory of so many shims of each kind, idle and after an exec")
	check := flag.Bool("check", false, "fail when the first shim misses a target")
	flag.Parse()
	ctx, stop := session.Context()
	defer stop()
	if *speed || *crowd || *started > 0 {
		list := strings.Split(*shims, ",")
		measure := func() error { return tempos(ctx, list) }
		switch {
		case *crowd:
			measure = func() error { return crowds(ctx, list[0], *n) }
		case *started > 0:
			measure = func() error { return starts(ctx, list, *started) }
		}
		if err := measure(); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %v\n", err)
			os.Exit(2)
		}
		return
	}
	var all []*figures
	clean := true
	for _, shim := range strings.Split(*shims, ",") {
		f, err := measure(ctx, shim, *n, *waves)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", shim, err)
			if f == nil {
				os.Exit(2)
			}
			clean = false // its figures are good
		}
		all = append(all, f)
	}
	fmt.Printf("\n%-34s %10s %14s %8s %8s %8s %12s\n", "shim", "idle", "after flood", "ok", "failed", "time", "slowest State")
	for _, f := range all {
		fmt.Printf("%-34s %7.2f MB %6.2f MB %3.0fs %8d %8d %7.1fs %12v\n", f.shim, mb(f.idle), mb(f.after), f.within.Seconds(),
			f.report.OK, f.report.N-f.report.OK, f.report.Elapsed.Seconds(), f.report.SlowestState.Round(time.Millisecond))
	}
	if missed := all[0].missed(); *check && len(missed) > 0 {
		for _, m := range missed {
			fmt.Println("MISSED:", m)
		}
		os.Exit(1)
	}
	if !clean {
		os.Exit(2)
	}
}

func mb(n int64) float64 { return float64(n) / (1 << 20) }

// measure floods one shim on a containerd of its own. If only the clean-up fails it
// returns the figures and an error.
func measure(ctx context.Context, shim string, n, waves int) (f *figures, err error) {
	r, err := daemons.New(shim)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := r.Close(); e != nil && err == nil {
			err = e
		}
	}()
	fmt.Printf("%s: starting containerd\n", shim)
	const id = "bench"
	s, err := r.Sleeper(ctx, id)
	if err != nil {
		return nil, err
	}
	got := &figures{shim: shim}
	select {
	case <-time.After(idleAge):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if got.idle, err = s.Anonymous(); err != nil {
		return nil, err
	}
	fmt.Printf("%s: idle %.2f MB; flood of %d\n", shim, mb(got.idle), n)
	for wave := range max(waves, 1) {
		prefix := fmt.Sprintf("b%d-", wave)
		if got.report, err = r.Flood(ctx, daemons.Flood{Container: id, N: n, Prefix: prefix, Limit: 90 * time.Second}); err != nil {
			return nil, err
		}
		fmt.Printf("%s: %v\n", shim, got.report)
	}
	return got, got.shrink(ctx, s)
}

// shrink watches the memory come down, for shrinkLimit.
func (f *figures) shrink(ctx context.Context, s *daemons.Shim) error {
	begin := time.Now()
	f.within = shrinkLimit
	for tick := time.NewTicker(time.Second); ; {
		now, err := s.Anonymous()
		if err != nil {
			return err
		}
		f.after = now
		since := time.Since(begin)
		if now <= afterTarget {
			f.within = min(since, f.within)
		}
		if since >= shrinkLimit {
			tick.Stop()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// missed returns the targets that were not met.
func (f *figures) missed() []string {
	missed := f.report.Problems()
	if float64(f.idle) > idleTarget {
		missed = append(missed, fmt.Sprintf("idle: %.2f MB, target %.1f", mb(f.idle), idleTarget/(1<<20)))
	}
	if float64(f.after) > afterTarget {
		missed = append(missed, fmt.Sprintf("after the flood: %.2f MB, target %.1f", mb(f.after), afterTarget/(1<<20)))
	}
	return missed
}
