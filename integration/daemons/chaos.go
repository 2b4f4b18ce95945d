// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// Chaos is a steady stream of execs in several containers, with random faults of a
// host. The same seed makes the same faults in the same order; what they hit depends on
// the host.
type Chaos struct {
	For        time.Duration
	Seed       uint64
	Containers int
	// Programs are exchanged in place, in turns; without any no shim is exchanged.
	Programs []string
	Faults   []string     // the only ones to make; empty for all
	Log      func(string) // called with each fault
}

// Limits of Chaos.
const (
	chaosCall    = time.Minute      // an exec that takes longer has failed
	chaosSettle  = 30 * time.Second // an exit that is not accepted by then is lost
	chaosWorkers = 3                // execs at a time in each container
	askEvery     = 200 * time.Millisecond
	refusedPause = 200 * time.Millisecond // what refuses may do so at once
)

// ChaosReport is the result of Chaos.
type ChaosReport struct {
	Took     time.Duration
	Faults   map[string]int
	Execs    int      // execs that started and ended as they should
	Refused  []string // execs that failed without a process while a fault was there, with their errors
	Accepted int      // exits that containerd has accepted
	// Lost exits were never accepted by containerd, doubled ones more than once, wrong
	// ones with another container, pid or status than the process had. Strange ones are
	// of execs that were refused, and of what was never started or lives.
	Lost, Doubled, Wrong, Strange []string
	Left                          []string // processes in a container after the last exec
	Errors                        []string // calls that should have succeeded
	States                        int
	SlowestState                  time.Duration
	Samples                       []Sample
}

// Problems returns what is wrong with the result. Doubled exits are only counted after a
// fault that can cut an answer off: that looks like none, and the exit is sent again.
func (r *ChaosReport) Problems() []string {
	var p []string
	if r.Accepted == 0 {
		return append(p, "containerd has accepted no exit")
	}
	doubled := r.Doubled
	if r.Faults[daemonKilled]+r.Faults[daemonStopped]+r.Faults[memoryTight] > 0 {
		doubled = nil
	}
	for _, list := range []struct {
		what string
		all  []string
	}{{"exits lost", r.Lost}, {"exits doubled", doubled}, {"exits that are wrong", r.Wrong}, {"exits of nothing that ran", r.Strange},
		{"processes left", r.Left}, {"errors", r.Errors}} {
		if n := len(list.all); n > 0 {
			p = append(p, fmt.Sprintf("%d %s: %s", n, list.what, strings.Join(list.all[:min(3, n)], " | ")))
		}
	}
	if r.Execs == 0 || r.States == 0 {
		p = append(p, "nothing was done")
	}
	return append(p, r.growth()...)
}

func (r *ChaosReport) String() string {
	var faults []string
	for name, n := range r.Faults {
		faults = append(faults, fmt.Sprintf("%d %s", n, name))
	}
	slices.Sort(faults)
	return fmt.Sprintf("%d execs, %d refused; exits lost %d, doubled %d, wrong %d, strange %d; processes left %d; errors %d; State %d times, slowest %v; faults: %s",
		r.Execs, len(r.Refused), len(r.Lost), len(r.Doubled), len(r.Wrong), len(r.Strange), len(r.Left), len(r.Errors), r.States, r.SlowestState.Round(time.Millisecond), strings.Join(faults, ", "))
}

// chaos is a run of Chaos.
type chaos struct {
	Chaos
	rig    *Rig
	ledger *eventLedger
	ids    []string // of the containers
	begun  time.Time
	// starting is held for reading while an exec is started.
	starting sync.RWMutex

	mu      sync.Mutex
	report  ChaosReport
	excuses []excuse
	want    map[string]end  // by exec id
	unsure  map[string]bool // execs with an error, or whose runtime hangs: an exit of one may come or not
}

// end is how an exec ends.
type end struct {
	container   string
	pid, status uint32
}

func (e end) String() string {
	return fmt.Sprintf("status %d of pid %d in %s", e.status, e.pid, e.container)
}

// Chaos runs c on a Rig whose containerd has not been started yet, and returns a report.
// There is an error only if the run could not be made.
func (r *Rig) Chaos(ctx context.Context, c Chaos) (_ *ChaosReport, err error) {
	if c.Containers < 1 {
		return nil, errors.New("chaos takes a container")
	}
	run := &chaos{Chaos: c, rig: r, want: map[string]end{}, unsure: map[string]bool{}, begun: time.Now(), report: ChaosReport{Faults: map[string]int{}}}
	if run.ledger, err = r.keepLedger(ctx); err != nil {
		return nil, err
	}
	defer run.ledger.close()
	if err := r.mountState(); err != nil {
		return nil, err
	}
	if err := r.StartContainerd(ctx); err != nil {
		return nil, err
	}
	for i := range c.Containers {
		id := fmt.Sprintf("chaos%d", i)
		if err := r.Run(ctx, id, nil, "sleep", "100000"); err != nil {
			return nil, err
		}
		run.ids = append(run.ids, id)
	}
	limited, cancel := context.WithTimeout(ctx, c.For)
	defer cancel()
	var all sync.WaitGroup
	for n, id := range run.ids {
		for w := range chaosWorkers {
			rng := rand.New(rand.NewPCG(c.Seed, uint64(n*chaosWorkers+w)))
			all.Go(func() { run.stream(limited, id, w, rng) })
		}
		all.Go(func() { run.ask(limited, id) })
		all.Go(func() { run.sample(limited, id) })
	}
	err = run.nemesis(limited)
	all.Wait()
	run.report.Took = time.Since(run.begun)
	run.settle()
	for _, id := range run.ids {
		run.look(id)
	}
	return &run.report, errors.Join(err, run.judge(), ctx.Err())
}

// settle waits until each exit that is expected has been accepted.
func (c *chaos) settle() {
	wait.Until(chaosSettle, func() bool {
		seen := map[string]bool{}
		exits, _ := c.ledger.exits() // judge reports the error
		for _, e := range exits {
			seen[e.ID] = true
		}
		for id := range c.want {
			if !seen[id] {
				return false
			}
		}
		return true
	})
}

// judge compares what containerd has accepted with what has run.
func (c *chaos) judge() error {
	accepted, err := c.ledger.exits()
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]int{}
	c.report.Accepted = len(accepted)
	for _, e := range accepted {
		seen[e.ID]++
		want, ran := c.want[e.ID]
		switch got := (end{e.ContainerID, e.Pid, e.ExitStatus}); {
		case ran && got != want:
			c.report.Wrong = append(c.report.Wrong, fmt.Sprintf("%s: %v, want %v", e.ID, got, want))
		case !ran && !c.unsure[e.ID]:
			c.report.Strange = append(c.report.Strange, fmt.Sprintf("%s: %v", e.ID, got))
		}
	}
	for id := range c.want {
		switch n := seen[id]; {
		case n == 0:
			c.report.Lost = append(c.report.Lost, id)
		case n > 1:
			c.report.Doubled = append(c.report.Doubled, id)
		}
	}
	return err
}

// look notes the processes of a container beside its own. After the last exec there may
// be none: one that an exec has left that was refused would live on with nobody to end it.
func (c *chaos) look(id string) {
	var left []string
	var err error
	wait.Until(chaosSettle, func() bool {
		left = nil
		err = c.with(id, func(ctx context.Context, client *Client) error {
			own, err := client.State(ctx, &shimapi.StateRequest{ID: id})
			if err != nil {
				return err
			}
			all, err := client.ListPids(ctx, &shimapi.ListPidsRequest{ID: id})
			for _, p := range all.GetProcesses() {
				now, alive := procfs.Read(int(p.Pid))
				if alive && p.Pid != own.Pid && !strings.HasPrefix(now.Comm, "runc") { // see runtimeHangs
					left = append(left, fmt.Sprintf("pid %d in %s", p.Pid, id))
				}
			}
			return err
		})
		return err == nil && len(left) == 0
	})
	if err != nil {
		c.failed("processes of %s: %v", id, err)
	}
	c.report.Left = append(c.report.Left, left...)
}

// failed notes a call that should have succeeded.
func (c *chaos) failed(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Errors = append(c.report.Errors, fmt.Sprintf("%.1fs: ", time.Since(c.begun).Seconds())+fmt.Sprintf(format, args...))
}

// ask times State, straight to the shim.
func (c *chaos) ask(ctx context.Context, id string) {
	for ctx.Err() == nil {
		begin := time.Now()
		err := c.with(id, func(ctx context.Context, client *Client) error {
			_, err := client.State(ctx, &shimapi.StateRequest{ID: id})
			return err
		})
		took := time.Since(begin)
		if err != nil {
			c.failed("State of %s: %v", id, err)
		}
		c.mu.Lock()
		c.report.States++
		c.report.SlowestState = max(c.report.SlowestState, took)
		c.mu.Unlock()
		pause(ctx, askEvery)
	}
}

// with makes calls to a container's shim on a connection of their own.
func (c *chaos) with(id string, calls func(context.Context, *Client) error) error {
	shim, err := c.rig.Shim(c.rig.Name, id)
	if err != nil {
		return err
	}
	client, err := shim.Dial()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), chaosCall)
	defer cancel()
	return errors.Join(calls(ctx, client), client.Close())
}

// pause waits and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
