// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"containerd-shim.v1/integration/harness/wait"
)

const (
	// startGap spreads the starts of ctr: 400 are under way within a second or two.
	startGap = 4 * time.Millisecond
	// exitsLimit bounds the time that the last exits take through the daemon.
	exitsLimit = 30 * time.Second
	// paceSize is how many execs are run to measure the speed of the machine.
	paceSize = 40
	// shimSettles is how long a shim may take to reap, and to close what it no longer
	// needs.
	shimSettles = 40 * time.Second
)

// Flood is N `ctr tasks exec` at once in one running container, each with an
// exit code of its own.
type Flood struct {
	Container string
	N         int
	Prefix    string        // of the exec ids, so that a container can be flooded twice
	Gated     bool          // hold all execs inside the container until the last one has started
	Limit     time.Duration // after which execs that still run are killed, and count as failed
	Progress  func(done, failed int)
}

// exitCode returns the exit code of the i-th exec, and its command. The codes vary and
// include 0; every tenth exec kills itself.
func exitCode(i int) (code uint32, argv []string) {
	if i%10 == 9 {
		return 128 + uint32(syscall.SIGKILL), []string{"sh", "-c", "kill -KILL $$"}
	}
	code = uint32(i % 120)
	return code, []string{"sh", "-c", fmt.Sprint("exit ", code)}
}

// Flood runs f and returns a report. There is an error only if the flood could not be
// made.
func (r *Rig) Flood(ctx context.Context, f Flood) (*Report, error) {
	return r.press(ctx, f.Container, f.N, func(shim *Shim, events *Events, report *Report) (map[string]uint32, error) {
		return r.pour(ctx, f, shim, events, report)
	})
}

// press runs work, which runs n execs in a container, and meanwhile asks the shim and
// its daemon for the state. It reports on both. work returns the exit status of each
// exec that has run, by id.
func (r *Rig) press(ctx context.Context, container string, n int, work func(*Shim, *Events, *Report) (map[string]uint32, error)) (*Report, error) {
	shim, err := r.Shim(r.Name, container)
	if err != nil {
		return nil, err
	}
	report := &Report{N: n}
	if report.Pace, err = r.pace(ctx, container); err != nil {
		return nil, err
	}
	if report.Before, err = shim.Counts(); err != nil {
		return nil, err
	}
	events, err := r.Watch(ctx)
	if err != nil {
		return nil, err
	}
	defer events.Close()
	probes, err := r.probe(shim, container, report)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	want, err := work(shim, events, report)
	report.Elapsed = time.Since(begin)
	probes.end()
	if err != nil {
		return nil, err
	}
	r.conclude(ctx, shim, container, events, want, report)
	return report, nil
}

// pace returns the time per exec of paceSize execs at once on this machine without a
// shim. The flood's own pace would not do: it would excuse a slow shim.
func (r *Rig) pace(ctx context.Context, container string) (time.Duration, error) {
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	begin := time.Now()
	for range paceSize {
		all.Go(func() {
			err := r.BareExec(ctx, container)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	all.Wait()
	return time.Since(begin) / paceSize, errors.Join(errs...)
}

// BareExec runs true, by the runtime alone, in a container that Run has started.
func (r *Rig) BareExec(ctx context.Context, container string) error {
	_, err := output(command(ctx, r.Runtime, "--root", filepath.Join(runcRoot, r.Name), "exec", container, "true"))
	return err
}

// conclude waits for the last exits, and for the shim to settle, and adds both to the
// report, including what goes wrong here.
func (r *Rig) conclude(ctx context.Context, shim *Shim, container string, events *Events, want map[string]uint32, report *Report) {
	// judgeExits reports those that are missing.
	_ = events.Wait(exitsLimit, func([]Event) bool {
		seen := 0 // exits of execs that have failed do not count
		for _, e := range events.Exits(container) {
			if _, ok := want[e.ID]; ok {
				seen++
			}
		}
		return seen >= len(want)
	})
	if err := events.Fence(ctx); err != nil {
		report.Broken = append(report.Broken, err.Error())
	}
	report.judgeExits(events.Exits(container), want)
	var err error
	wait.Until(shimSettles, func() bool {
		report.After, err = shim.Counts()
		return err != nil || report.After.Zombies == 0 && report.After.Children == report.Before.Children && report.After.Fds <= report.Before.Fds
	})
	if err != nil {
		report.Broken = append(report.Broken, "the shim's counts: "+err.Error())
	}
}

// pour starts the execs and waits for all of them.
func (r *Rig) pour(ctx context.Context, f Flood, shim *Shim, events *Events, report *Report) (map[string]uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, f.Limit)
	defer cancel()
	var g *wait.Gate
	if f.Gated {
		var err error
		if g, err = shim.gate(); err != nil {
			return nil, err
		}
		defer g.Close()
	}
	count := newTally(report)
	var all sync.WaitGroup
	pace := time.NewTicker(startGap)
	defer pace.Stop()
	for i := range f.N {
		<-pace.C
		all.Add(1)
		count.begin()
		go func() {
			defer all.Done()
			r.floodOne(ctx, f, i, count)
			if f.Progress != nil {
				f.Progress(count.ended())
			}
		}()
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	var opened error
	if g != nil {
		// An exec that cannot start ends with an error: do not wait for its start.
		_ = events.Wait(f.Limit, func(list []Event) bool {
			ended, _ := count.ended()
			return started(list, f.Container)+ended >= f.N
		})
		opened = g.Open()
	}
	<-done
	return count.want, opened
}

func started(list []Event, container string) (n int) {
	for _, e := range list {
		if e.Topic == TopicExecStarted && e.ContainerID == container {
			n++
		}
	}
	return n
}

func (r *Rig) floodOne(ctx context.Context, f Flood, i int, count *tally) {
	id := fmt.Sprintf("%s%d", f.Prefix, i)
	code, argv := exitCode(i)
	if f.Gated {
		code %= 120
		argv = []string{"sh", "-c", through(code)}
	}
	args := append([]string{"tasks", "exec", "--exec-id", id, "--fifo-dir", r.path("fifo"), f.Container}, argv...)
	cmd := r.Ctr(ctx, args...)
	_, err := output(cmd)
	if cmd.ProcessState == nil {
		count.end(id, 0, err)
		return
	}
	got := cmd.ProcessState.ExitCode()
	switch {
	case ctx.Err() != nil:
		err = errors.Join(errors.New("not done within the limit"), err)
	case got == int(code):
		err = nil
	case err == nil:
		err = fmt.Errorf("exit %d, want %d", got, code)
	}
	count.end(id, code, err)
}
