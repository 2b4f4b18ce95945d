// SPDX-License-Identifier: Apache-2.0

// Command demo shows the shim at work: it starts a private containerd, runs a
// busybox container under the shim, floods it with execs, and removes
// everything. Exit status 0 means that not one exec was lost and nothing is left.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"containerd-shim.v1/integration/daemons"
	"containerd-shim.v1/integration/harness/session"
)

// limit bounds the whole demonstration.
const limit = 2 * time.Minute

func main() {
	shim := flag.String("shim", "bin/containerd-shim", "the shim to show")
	n := flag.Int("n", 400, "how many execs at once")
	flag.Parse()
	ctx, stop := session.Context()
	ctx, cancel := context.WithTimeout(ctx, limit)
	ok, err := demo(ctx, *shim, *n)
	cancel()
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(2)
	case !ok:
		os.Exit(1)
	}
}

// demo runs the demonstration and reports whether all went well.
func demo(ctx context.Context, shim string, n int) (ok bool, err error) {
	r, err := daemons.New(shim)
	if err != nil {
		return false, err
	}
	defer func() {
		fmt.Println("cleaning up")
		if e := r.Close(); e != nil {
			ok = false
			fmt.Println("NOT CLEAN:", e)
		}
		if ok {
			fmt.Println("VERDICT: good. Every exec ended with its own exit code, every exit was published once, nothing is left.")
		} else if err == nil {
			fmt.Println("VERDICT: BAD.")
		}
	}()
	fmt.Printf("starting a private containerd in %s with shim %s\n", r.Dir, r.Bin)
	const id = "demo"
	s, err := r.Sleeper(ctx, id)
	if err != nil {
		return false, err
	}
	uname, err := r.Ctr(ctx, "tasks", "exec", "--exec-id", "hello", id, "sh", "-c", "echo hello from a container on $(uname -r)").Output()
	if err != nil {
		return false, fmt.Errorf("first exec: %w", err)
	}
	fmt.Printf("container %q runs below shim %d and says: %s", id, s.Pid, uname)
	fmt.Printf("now %d execs at once through ctr, each with an exit code of its own\n", n)
	report, err := r.Flood(ctx, daemons.Flood{Container: id, N: n, Prefix: "e", Limit: time.Minute, Progress: progress(n)})
	if err != nil {
		return false, err
	}
	fmt.Println(report)
	problems := report.Problems()
	for _, p := range problems {
		fmt.Println("PROBLEM:", p)
	}
	return len(problems) == 0, nil
}

// progress prints a line for each tenth of the execs.
func progress(n int) func(done, failed int) {
	var mu sync.Mutex
	printed, begin := 0, time.Now()
	return func(done, failed int) {
		mu.Lock()
		defer mu.Unlock()
		if tenth := done * 10 / n; tenth > printed {
			printed = tenth
			fmt.Printf("  %5.1f s: %d of %d ended, %d failed\n", time.Since(begin).Seconds(), done, n, failed)
		}
	}
}
