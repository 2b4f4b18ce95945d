// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"containerd-shim/integration/daemons"
)

const (
	// rounds is how often each time is taken; the shims take turns.
	rounds = 25
	// relayed is how much output is copied, in MiB.
	relayed = 1024
)

// rig is one shim at work: an own containerd and dockerd, and a container
// under each.
type rig struct {
	*daemons.Rig
	shim   *daemons.Shim
	docker map[string]string // container by runtime
	tempo  tempo
}

// tempo is what was measured of one shim.
type tempo struct {
	exec, exit, docker []time.Duration
	relay              daemons.Relay
}

const (
	container = "tempo"
	v2        = "io.containerd.runc.v2"
)

// tempos measures the times of each shim, of runc alone, and of the runc-v2
// shim under the first one's dockerd.
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
	var bare, dockerV2 []time.Duration
	for range rounds {
		if err := timed(&bare, func() error { return rigs[0].bareExec(ctx) }); err != nil {
			return err
		}
		if err := timed(&dockerV2, func() error { return rigs[0].dockerExec(ctx, v2) }); err != nil {
			return err
		}
		for _, r := range rigs {
			if err := r.round(ctx); err != nil {
				return err
			}
		}
	}
	for _, r := range rigs {
		if r.tempo.relay, err = r.Relay(ctx, container, relayed); err != nil {
			return err
		}
	}
	fmt.Printf("\nmedians of %d, taken in turns; 1 GiB of output\n", rounds)
	fmt.Printf("%-34s %12s %12s %16s %10s %14s\n", "shim", "exec", "docker exec", "exit to event", "output", "CPU per GiB")
	fmt.Printf("%-34s %12v\n", "(runc exec alone)", median(bare))
	fmt.Printf("%-34s %12s %12v\n", "(runc-v2 shim)", "", median(dockerV2))
	for i, r := range rigs {
		t := &r.tempo
		fmt.Printf("%-34s %12v %12v %16v %5.0f MiB/s %14v\n", shims[i], median(t.exec), median(t.docker), median(t.exit),
			relayed/t.relay.Elapsed.Seconds(), t.relay.CPU.Round(10*time.Millisecond))
	}
	return nil
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
	if r.shim, err = r.Shim(r.Name, container); err != nil {
		return err
	}
	r.docker[daemons.Runtime], err = r.DockerRun(ctx, nil, "sleep", "100000")
	return err
}

// round takes each time of one shim once.
func (r *rig) round(ctx context.Context) error {
	if err := timed(&r.tempo.exec, func() error { return r.ExecOnce(ctx, container) }); err != nil {
		return err
	}
	if err := timed(&r.tempo.docker, func() error { return r.dockerExec(ctx, daemons.Runtime) }); err != nil {
		return err
	}
	d, err := r.ExitLatency(ctx, container)
	r.tempo.exit = append(r.tempo.exit, d)
	return err
}

func (r *rig) dockerExec(ctx context.Context, runtime string) error {
	return run(r.Docker(ctx, "exec", r.docker[runtime], "true"))
}

// bareExec is runc's own share, in the same container.
func (r *rig) bareExec(ctx context.Context) error {
	root := filepath.Join("/run/containerd/runc", r.Name) // as containerd has it without a runtime_root
	return run(exec.CommandContext(ctx, "runc", "--root", root, "exec", container, "true"))
}

func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

func timed(all *[]time.Duration, f func() error) error {
	begin := time.Now()
	if err := f(); err != nil {
		return err
	}
	*all = append(*all, time.Since(begin))
	return nil
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2].Round(10 * time.Microsecond)
}
