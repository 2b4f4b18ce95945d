// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"containerd-shim.v1/integration/harness/procfs"
)

// The faults after which an exit may be accepted twice. A shim without memory may be
// unable to read the answer.
const (
	daemonKilled  = "daemon killed"
	daemonStopped = "daemon stopped"
	memoryTight   = "memory tight"
)

// nemesis makes one fault after the other until ctx ends. It undoes each, so that
// everything can end well afterwards.
func (c *chaos) nemesis(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(c.Seed, 1<<32))
	type fault struct {
		name string
		make func(context.Context, *rand.Rand) (bool, error) // false: there was nothing to hit
		// refuses reports whether an exec may fail for it.
		refuses bool
	}
	faults := []fault{
		{daemonKilled, c.killDaemon, false},
		{daemonStopped, c.stallDaemon, false},
		{"stack dumps", c.dumps, false},
		{"container paused", c.pauseContainer, true},
		{"runc killed", c.hitRuntime(syscall.SIGKILL), true},
		{"runc stopped", c.hitRuntime(syscall.SIGSTOP), false},
		{"FIFO removed", c.removeFIFO, true},
		{"state full", c.fillState, true},
		{"state out of inodes", c.useInodes, true},
		{"state read-only", c.lockState, true},
		{memoryTight, c.tightMemory, true},
		{"shim exchanged", c.exchange, false},
	}
	if len(c.Faults) > 0 {
		faults = slices.DeleteFunc(faults, func(f fault) bool { return !slices.Contains(c.Faults, f.name) })
	}
	if len(faults) == 0 {
		return fmt.Errorf("no fault is called %q", c.Faults)
	}
	for pause(ctx, between(rng, 200, 1500)) {
		f := faults[rng.IntN(len(faults))]
		ends := func() {}
		if f.refuses {
			ends = c.refuses()
		}
		hit, err := f.make(ctx, rng)
		ends()
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if hit {
			c.mu.Lock()
			c.report.Faults[f.name]++
			c.mu.Unlock()
			c.Log(fmt.Sprintf("%6.1f s  %s", time.Since(c.begun).Seconds(), f.name))
		}
	}
	return nil
}

// refuses notes that a fault begins for which execs may be refused, until ends is called.
func (c *chaos) refuses() (ends func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.excuses = append(c.excuses, excuse{from: time.Now()})
	last := len(c.excuses) - 1
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.excuses[last].to = time.Now()
	}
}

// excuse is the time that a fault lasted; to is zero as long as it does.
type excuse struct{ from, to time.Time }

// excused reports whether there was such a fault since begun. The caller holds mu.
//
// +checklocks:c.mu
func (c *chaos) excused(begun time.Time) bool {
	return slices.ContainsFunc(c.excuses, func(e excuse) bool { return e.to.IsZero() || e.to.After(begun) })
}

// between is a random time from least to most milliseconds.
func between(rng *rand.Rand, least, most int) time.Duration {
	return time.Duration(least+rng.IntN(most-least)) * time.Millisecond
}

// some picks a container's shim.
func (c *chaos) some(rng *rand.Rand) (string, *Shim, error) {
	id := c.ids[rng.IntN(len(c.ids))]
	shim, err := c.rig.Shim(c.rig.Name, id)
	return id, shim, err
}

// killDaemon kills containerd and starts it again a moment later.
func (c *chaos) killDaemon(_ context.Context, rng *rand.Rand) (bool, error) {
	if err := c.rig.StopContainerd(syscall.SIGKILL); err != nil {
		return false, err
	}
	<-time.After(between(rng, 0, 2000))
	// A restart that has begun is not cut short by the end of the run.
	return true, c.rig.StartContainerd(context.Background())
}

// stallDaemon stops containerd for up to three seconds.
func (c *chaos) stallDaemon(_ context.Context, rng *rand.Rand) (bool, error) {
	pid := c.rig.containerd.cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return false, err
	}
	<-time.After(between(rng, 100, 3000))
	return true, syscall.Kill(pid, syscall.SIGCONT)
}

// dumps asks a shim for its stacks, many times at once.
func (c *chaos) dumps(_ context.Context, rng *rand.Rand) (bool, error) {
	_, shim, err := c.some(rng)
	for range 20 {
		if err == nil {
			err = syscall.Kill(shim.Pid, syscall.SIGUSR1)
		}
	}
	return true, err
}

// pauseContainer pauses one for a moment.
func (c *chaos) pauseContainer(_ context.Context, rng *rand.Rand) (bool, error) {
	id, _, err := c.some(rng)
	if err != nil {
		return false, err
	}
	if err := c.with(id, func(ctx context.Context, client *Client) error {
		if _, err := client.Pause(ctx, &emptypb.Empty{}); err != nil {
			return fmt.Errorf("pause: %w", err)
		}
		<-time.After(between(rng, 50, 1000))
		if _, err := client.Resume(ctx, &emptypb.Empty{}); err != nil {
			return fmt.Errorf("resume: %w", err)
		}
		return nil
	}); err != nil {
		c.failed("%v", err)
	}
	return true, nil
}

// hitRuntime sends a runc at work a signal; one that is stopped goes on soon.
func (c *chaos) hitRuntime(signal syscall.Signal) func(context.Context, *rand.Rand) (bool, error) {
	return func(_ context.Context, rng *rand.Rand) (bool, error) {
		_, shim, err := c.some(rng)
		stopped := between(rng, 100, 1000) // drawn in any case: the next faults are the same
		if err != nil {
			return false, err
		}
		for _, p := range procfs.Children(shim.Pid) {
			if p.Comm != "runc" || p.Dead() {
				continue
			}
			if p.Signal(signal) != nil {
				return false, nil // it has ended meanwhile
			}
			if signal == syscall.SIGSTOP {
				<-time.After(stopped)
				_ = p.Signal(syscall.SIGCONT) // as above
			}
			return true, nil
		}
		return false, nil
	}
}

// exchange has a shim execute another program in its place.
func (c *chaos) exchange(ctx context.Context, rng *rand.Rand) (bool, error) {
	if len(c.Programs) == 0 {
		return false, nil
	}
	_, shim, err := c.some(rng)
	if err != nil {
		return false, err
	}
	conn, err := net.Dial("unix", shim.Address)
	if err != nil {
		return false, err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, chaosCall)
	defer cancel()
	var version wrapperspb.StringValue
	program := wrapperspb.String(c.Programs[rng.IntN(len(c.Programs))])
	err = client.Call(ctx, "containerd.shim.inplace.v1", "Upgrade", program, &version)
	switch {
	case err == nil:
		return true, nil
	case grpcstatus.Code(err) == codes.Unavailable, ctx.Err() != nil: // it is at work, or the run is over
		return false, nil
	}
	c.failed("exchange: %v", err)
	return false, nil
}
