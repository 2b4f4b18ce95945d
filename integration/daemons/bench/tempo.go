// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"time"

	"containerd-shim.v1/integration/daemons"
)

const (
	// rounds is how often each time is measured; the shims take turns.
	rounds = 30
	// pause is how long the machine is left alone before each measurement, because
	// some shims answer before they are done.
	pause = 300 * time.Millisecond
	// crowdRounds is how often a crowd is timed.
	crowdRounds = 3
	// relayed is how much output is copied, in MiB.
	relayed = 1024
)

// rig is a shim with a containerd and a dockerd of its own, and a container under
// each.
type rig struct {
	*daemons.Rig
	docker map[string]string // container by runtime
}

const (
	container = "tempo"
	v2        = "io.containerd.runc.v2"
)

// tempos measures and prints the times of each shim, of runc alone, and of the runc-v2
// shim under the first rig's dockerd.
func tempos(ctx context.Context, shims []string) (err error) {
	var rigs []*rig
	defer func() {
		for _, r := range rigs {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, shim := range shims {
		fmt.Printf("%s: starting containerd and dockerd\n", shim)
		r, err := daemons.New(shim)
		if err != nil {
			return err
		}
		one := &rig{Rig: r, docker: map[string]string{}}
		rigs = append(rigs, one)
		if err := one.start(ctx); err != nil {
			return err
		}
	}
	if rigs[0].docker[v2], err = rigs[0].DockerRun(ctx, []string{"--runtime", v2}, "sleep", "100000"); err != nil {
		return err
	}
	execs := []take{timed(func() error { return rigs[0].BareExec(ctx, container) })}
	dockers := []take{timed(func() error { return rigs[0].dockerExec(ctx, v2) })}
	exits := []take{func() (time.Duration, error) { return rigs[0].EventLatency(ctx) }}
	for _, r := range rigs {
		execs = append(execs, timed(func() error { return r.ExecOnce(ctx, container) }))
		dockers = append(dockers, timed(func() error { return r.dockerExec(ctx, daemons.Runtime) }))
		exits = append(exits, func() (time.Duration, error) { return r.ExitLatency(ctx, container) })
	}
	exec, err := inTurns(rounds, execs)
	if err != nil {
		return err
	}
	docker, err := inTurns(rounds, dockers)
	if err != nil {
		return err
	}
	exit, err := inTurns(rounds, exits)
	if err != nil {
		return err
	}
	relay := make([]daemons.Relay, len(rigs))
	for i, r := range rigs {
		if relay[i], err = r.Relay(ctx, container, relayed); err != nil {
			return err
		}
	}
	fmt.Printf("\nmedians of %d, taken in turns; %d MiB of output\n", rounds, relayed)
	fmt.Printf("%-34s %12s %12s %14s %12s %10s\n", "shim", "exec", "docker exec", "exit to event", "output", "its CPU")
	fmt.Printf("%-34s %12v\n", "(runc exec alone)", exec[0])
	fmt.Printf("%-34s %12s %12v\n", "(runc-v2 shim)", "", docker[0])
	fmt.Printf("%-34s %12s %12s %14v\n", "(an event alone)", "", "", exit[0])
	for i, shim := range shims {
		fmt.Printf("%-34s %12v %12v %14v %6.0f MiB/s %10v\n", shim, exec[i+1], docker[i+1], exit[i+1],
			relayed/relay[i].Elapsed.Seconds(), relay[i].CPU.Round(10*time.Millisecond))
	}
	return nil
}

// crowds compares n execs at once over the shim's socket with n "runc exec" at once,
// and prints both.
func crowds(ctx context.Context, shim string, n int) (err error) {
	one, err := daemons.New(shim)
	if err != nil {
		return err
	}
	r := &rig{Rig: one}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.StartContainerd(ctx); err != nil {
		return err
	}
	if err := r.Run(ctx, container, nil, "sleep", "100000"); err != nil {
		return err
	}
	took, err := inTurns(crowdRounds, []take{
		timed(func() error { return atOnce(n, func() error { return r.BareExec(ctx, container) }) }),
		timed(func() error { return atOnce(n, func() error { return r.ExecOnce(ctx, container) }) }),
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d at once, medians of %d: runc exec alone %v, %s %v, ratio %.2f\n", n, crowdRounds,
		took[0].Round(time.Millisecond), shim, took[1].Round(time.Millisecond), took[1].Seconds()/took[0].Seconds())
	return nil
}

// atOnce runs f n times at once.
func atOnce(n int, f func() error) error {
	ends := make(chan error, n)
	for range n {
		go func() { ends <- f() }()
	}
	var err error
	for range n {
		err = cmp.Or(err, <-ends)
	}
	return err
}

func (r *rig) start(ctx context.Context) (err error) {
	if err := r.StartContainerd(ctx); err != nil {
		return err
	}
	if err := r.StartDockerd(ctx); err != nil {
		return err
	}
	if err := r.Run(ctx, container, nil, "sleep", "100000"); err != nil {
		return err
	}
	r.docker[daemons.Runtime], err = r.DockerRun(ctx, nil, "sleep", "100000")
	return err
}

func (r *rig) dockerExec(ctx context.Context, runtime string) error {
	return run(r.Docker(ctx, "exec", r.docker[runtime], "true"))
}

func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// take makes one measurement.
type take func() (time.Duration, error)

// timed returns a take that measures f.
func timed(f func() error) take {
	return func() (time.Duration, error) {
		begin := time.Now()
		err := f()
		return time.Since(begin), err
	}
}

// inTurns makes each measurement rounds times and returns the medians. Each round has
// another random order.
func inTurns(rounds int, takes []take) ([]time.Duration, error) {
	all := make([][]time.Duration, len(takes))
	order := rand.New(rand.NewPCG(1, 2)) // the same in every run
	for range rounds {
		for _, i := range order.Perm(len(takes)) {
			time.Sleep(pause)
			d, err := takes[i]()
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], d)
		}
	}
	medians := make([]time.Duration, len(takes))
	for i, one := range all {
		slices.Sort(one)
		medians[i] = one[len(one)/2].Round(10 * time.Microsecond)
	}
	return medians, nil
}
