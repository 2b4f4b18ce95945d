// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/daemon"
	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/stackdump"
)

// defaultStateFile keeps what a run of check has seen for the next one.
const defaultStateFile = "/run/shimctl/check.json"

// probesAtOnce bounds the sockets and goroutines of a check.
const probesAtOnce = 32

// row is one shim in a check.
type row struct {
	scan.Shim
	Answers probe.Answers
	Result  health.Result
}

// round is one look at all shims.
type round struct {
	Time time.Time
	Took time.Duration
	Rows []row
	V2   int // shims that are not judged
}

// checker judges shims; its memory lasts from round to round.
type checker struct {
	memory  health.Memory
	limit   time.Duration
	confirm bool // take the stacks of a shim with a sign
	state   string
	// namespace is the only one that is looked at; all when empty.
	namespace string
	silent    sync.Map // addresses of the daemons that did not answer in this round
}

// look probes the v1 shims among the chosen and judges them.
func (c *checker) look(ctx context.Context, args []string) (*round, error) {
	start := time.Now()
	c.silent.Clear()
	all, err := shims()
	if err != nil {
		return nil, err
	}
	chosen, err := choose(all, args)
	if err != nil {
		return nil, err
	}
	r := &round{Time: start}
	for _, s := range inNamespace(chosen, c.namespace) {
		switch {
		case s.Kind == scan.V1:
			r.Rows = append(r.Rows, row{Shim: s})
		case len(args) > 0:
			return nil, fmt.Errorf("%s pid %d is a v2 shim, which is not judged; `shimctl explain` reads its stacks", s.Name(), s.PID)
		default:
			r.V2++
		}
	}
	for i := range r.Rows { // the map is touched by this goroutine only
		c.memory.Of(r.Rows[i].PID, r.Rows[i].StartTicks)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, probesAtOnce)
	for i := range r.Rows {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c.judge(ctx, &r.Rows[i])
		})
	}
	wg.Wait()
	r.Took = time.Since(start)
	return r, nil
}

// judge takes one sample of one shim.
func (c *checker) judge(ctx context.Context, r *row) {
	rec := c.memory[r.PID]
	sample := health.Sample{Time: time.Now(), Shim: r.Shim}
	if r.Shim.State != "T" && r.Tracer == 0 { // asking one that cannot run tells nothing
		ask := c.state == "always" || c.state == "auto" && rec.WantsState(sample.Time, &r.Shim)
		r.Answers = probe.Ask(ctx, procRoot, &r.Shim, c.limit, ask)
		sample.Answers = r.Answers
	}
	if r.Answers.State.OK { // the daemon's answer takes another State
		sample.TaskGone = c.taskGone(ctx, &r.Shim)
	}
	// A zombie under a healthy shim is gone in a moment: only one that was there
	// in the last sample is a sign.
	late := r.Answers.State.TimedOut || !rec.TimedOut.IsZero() || rec.Remains(r.Zombies)
	if late || !r.Answers.ShimInfo.OK {
		sample.Disk, sample.Frozen = scan.Sleep(procRoot, r.PID)
		if now, ok := scan.One(procRoot, r.PID, r.StartTicks); ok { // a runc may have come while we waited
			r.Shim, sample.Shim = now, now
		}
		if c.confirm && late && !rec.Proven && !sample.Frozen {
			if taken, err := stacks.Take(ctx, procRoot, &r.Shim, stacks.Auto, 5*c.limit); err == nil && taken.Dump.Complete {
				sample.Report = stackdump.Explain(taken.Dump)
			}
		}
	}
	r.Result = rec.Judge(sample)
}

// taskGone asks the shim's daemon for the task; nil is no answer. A shim that
// has ended meanwhile was being deleted.
func (c *checker) taskGone(ctx context.Context, s *scan.Shim) *bool {
	if _, ok := c.silent.Load(s.Address); ok {
		return nil
	}
	d, err := daemon.Of(procRoot, s)
	if err != nil {
		return nil
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	gone, err := d.TaskGone(ctx, s.Namespace, s.ID, s.Init.PID)
	if err != nil {
		c.silent.Store(s.Address, nil)
		return nil
	}
	gone = gone && scan.Alive(procRoot, s.PID, s.StartTicks)
	return &gone
}

// keep are the pids whose records are worth storing.
func keep() map[int]bool {
	all, err := shims()
	if err != nil {
		return nil
	}
	pids := map[int]bool{}
	for _, s := range all {
		pids[s.PID] = true
	}
	return pids
}

// errDenied is returned when a shim could not be asked.
var errDenied = fmt.Errorf("some shims cannot be asked: %w", os.ErrPermission)

// denied reports whether a shim could not be asked for want of a right.
func (r *round) denied() bool {
	for _, row := range r.Rows {
		if row.Answers.ShimInfo.Denied {
			return true
		}
	}
	return false
}

// count is how many rows have the verdict.
func (r *round) count(v health.Verdict) (n int) {
	for _, row := range r.Rows {
		if row.Result.Verdict == v {
			n++
		}
	}
	return n
}

// first is the worst row, for one-line formats: a wedged one, else a suspect.
func (r *round) first(v health.Verdict) string {
	for _, row := range r.Rows {
		if row.Result.Verdict == v {
			return fmt.Sprintf("%s/%s pid %d %s", row.Namespace, shorten(row.ID), row.PID, row.Result.Reason)
		}
	}
	return ""
}
