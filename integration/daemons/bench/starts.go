// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"containerd-shim.v1/integration/daemons"
)

// startAge is how long after its start, or its exec, a shim's memory is read: this
// project's has given back by then what it does not need.
const startAge = 30 * time.Second

// starts measures n shims of each kind, idle and after one exec.
func starts(ctx context.Context, shims []string, n int) error {
	fmt.Printf("%-34s %-14s %8s %8s %8s %14s\n", "shim", "anonymous", "least", "median", "most", fmt.Sprintf("at most %.1f", idleTarget/(1<<20)))
	for _, shim := range shims {
		if err := startsOf(ctx, shim, n); err != nil {
			return fmt.Errorf("%s: %w", shim, err)
		}
	}
	return nil
}

func startsOf(ctx context.Context, shim string, n int) (err error) {
	r, err := daemons.New(shim)
	if err != nil {
		return err
	}
	defer func() {
		if e := r.Close(); err == nil {
			err = e
		}
	}()
	if err := r.StartContainerd(ctx); err != nil {
		return err
	}
	name := func(i int) string { return fmt.Sprintf("start%d", i) }
	for i := range n {
		if err := r.Run(ctx, name(i), nil, "sleep", "100000"); err != nil {
			return err
		}
	}
	show := func(what string) error {
		select {
		case <-time.After(startAge):
		case <-ctx.Done():
			return ctx.Err()
		}
		var all []int64
		within := 0
		for i := range n {
			s, err := r.Shim(r.Name, name(i))
			if err != nil {
				return err
			}
			m, err := s.Anonymous()
			if err != nil {
				return err
			}
			if float64(m) <= idleTarget {
				within++
			}
			all = append(all, m)
		}
		slices.Sort(all)
		fmt.Printf("%-34s %-14s %5.2f MB %5.2f MB %5.2f MB %8d of %d\n", shim, what, mb(all[0]), mb(all[len(all)/2]), mb(all[len(all)-1]), within, n)
		return nil
	}
	if err := show("idle"); err != nil {
		return err
	}
	for i := range n {
		if err := r.ExecOnce(ctx, name(i)); err != nil {
			return err
		}
	}
	return show("after an exec")
}
