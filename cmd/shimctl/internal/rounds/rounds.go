// SPDX-License-Identifier: Apache-2.0

// Package rounds looks at all v1 shims of a host. One round takes a sample of each;
// the verdict comes from it and from the samples of earlier rounds.
package rounds

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
	"containerd-shim.v1/internal/stackdump"
)

// DefaultStateFile keeps what a run has seen for the next one.
const DefaultStateFile = "/run/shimctl/check.json"

// When says when a shim is asked for State. A wedged one keeps a goroutine for
// each time.
type When string

// Auto is as often as the verdict needs.
const (
	Auto   When = "auto"
	Always When = "always"
	Never  When = "never"
)

// MarshalText returns the flag's value.
func (w When) MarshalText() ([]byte, error) { return []byte(w), nil }

// UnmarshalText returns an error unless text is one of the constants.
func (w *When) UnmarshalText(text []byte) error {
	switch v := When(text); v {
	case Auto, Always, Never:
		*w = v
		return nil
	}
	return fmt.Errorf("want %s, %s or %s", Auto, Always, Never)
}

// probesAtOnce bounds the sockets and goroutines of a check.
const probesAtOnce = 32

// Row is one shim of a round.
type Row struct {
	scan.Shim
	Answers probe.Answers
	Result  health.Result
}

// Round is one look at the shims of a host.
type Round struct {
	Time time.Time
	Took time.Duration
	Rows []Row
	V2   int // shims that are not judged
	// Foreign is how many are Foreign (see scan.Shim), which are not asked or judged either.
	Foreign int

	silent sync.Map // addresses of the daemons that did not answer
}

// Checker looks at the v1 shims of a host and judges them.
type Checker struct {
	Proc      string // where /proc is mounted
	Now       func() time.Time
	Samples   int           // how often to look, 1 if it is less
	Interval  time.Duration // between two samples
	Limit     time.Duration // for each call to a shim or a daemon
	Confirm   bool          // take the stacks of a shim with a sign, or slow to answer State
	State     When          // to ask for State
	Namespace string        // the only one that is looked at; "" for all
	StateFile string        // keeps the records between runs; "" for none
	Stacks    Taker
	// Memory has a record of each shim. It lasts from round to round.
	Memory health.Memory
}

// Taker gets the stacks of a shim, as a stacks.Taker does.
type Taker interface {
	Take(ctx context.Context, s *scan.Shim, m stacks.Method, limit time.Duration) (*stacks.Result, error)
}

// Sample looks as often as it is asked to, keeps the records for the next run, and
// returns the last round. If ctx ends before, nothing is kept and there is no round.
func (c *Checker) Sample(ctx context.Context, args []string) (*Round, error) {
	var err error
	if c.Memory, err = health.Load(c.StateFile); err != nil {
		return nil, err
	}
	var r *Round
	for i := range max(c.Samples, 1) {
		if i > 0 && !Pause(ctx, c.Interval) {
			return nil, fmt.Errorf("interrupted: %w", ctx.Err())
		}
		if r, err = c.Look(ctx, args); err != nil {
			return nil, err
		}
	}
	if r.Denied() { // nor may we write
		return r, nil
	}
	return r, c.Memory.Store(c.StateFile, c.alive())
}

// Pause waits and reports whether ctx is still alive.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// alive is the pids whose records are worth keeping.
func (c *Checker) alive() map[int]bool {
	pids := map[int]bool{}
	all, _ := scan.Host(c.Proc) // on an error the next run begins anew
	for _, s := range all {
		pids[s.PID] = true
	}
	return pids
}

// Look probes the v1 shims that args name, all if there are none, and judges them.
func (c *Checker) Look(ctx context.Context, args []string) (*Round, error) {
	start := c.Now()
	chosen, err := scan.Find(c.Proc, c.Namespace, args)
	if err != nil {
		return nil, err
	}
	r := &Round{Time: start}
	for _, s := range chosen {
		switch {
		case s.Foreign && len(args) > 0:
			return nil, fmt.Errorf("%s pid %d: %s", s.Name(), s.PID, scan.WhyForeign)
		case s.Foreign:
			r.Foreign++
		case s.Kind == scan.V1:
			r.Rows = append(r.Rows, Row{Shim: s})
		case len(args) > 0:
			return nil, fmt.Errorf("%s pid %d is a v2 shim, which is not judged; `shimctl explain` reads its stacks", s.Name(), s.PID)
		default:
			r.V2++
		}
	}
	for i := range r.Rows { // the map is touched by this goroutine only
		c.Memory.Of(&r.Rows[i].Shim, start)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, probesAtOnce)
	for i := range r.Rows {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c.judge(ctx, r, &r.Rows[i])
		})
	}
	wg.Wait()
	if ctx.Err() != nil { // what was not waited for has not timed out
		return nil, fmt.Errorf("interrupted: %w", ctx.Err())
	}
	r.Took = c.Now().Sub(start)
	return r, nil
}

// judge takes one sample of one shim.
func (c *Checker) judge(ctx context.Context, round *Round, r *Row) {
	rec := c.Memory[r.PID]
	sample := health.Sample{Time: c.Now(), Shim: r.Shim}
	untold := false                           // there was no dump to be had
	if r.Shim.State != "T" && r.Tracer == 0 { // asking one that cannot run tells nothing
		ask := c.State == Always || c.State == Auto && rec.WantsState(sample.Time, &r.Shim)
		q := probe.Question{Limit: c.Limit, State: ask, Slow: slow(&r.Shim)}
		if c.Confirm && !rec.Proven {
			q.Proven = func() bool {
				sample.Report = c.explain(ctx, &r.Shim)
				untold = sample.Report == nil
				return sample.Report != nil && sample.Report.Worst() == stackdump.Deadlock
			}
		}
		r.Answers = probe.Ask(ctx, c.Proc, &r.Shim, q)
		sample.Answers = r.Answers
	}
	if r.Answers.State.OK { // the daemon's answer takes another State
		sample.TaskGone = c.taskGone(ctx, round, &r.Shim)
	}
	// A zombie under a healthy shim is gone in a moment: only one that was there
	// in the last sample is a sign.
	late := r.Answers.State.TimedOut || !rec.TimedOut.IsZero() || rec.Remains(r.Zombies)
	if late || !r.Answers.ShimInfo.OK {
		sample.Disk, sample.Frozen = scan.Sleep(c.Proc, r.PID)
		if now, ok := scan.One(c.Proc, r.PID, r.StartTicks); ok { // a runc may have come while we waited
			r.Shim, sample.Shim = now, now
		}
		proven := sample.Report != nil && sample.Report.Worst() == stackdump.Deadlock
		// After the limit there may be more to see. But a dump that does not come takes the time
		// of all methods, and what runs shimctl may not wait twice.
		if c.Confirm && late && !rec.Proven && !sample.Frozen && !proven && !untold {
			sample.Report = c.explain(ctx, &r.Shim)
		}
	}
	r.Result = rec.Judge(sample)
}

// slow is how long the shim may take to answer State before its stacks are looked at.
// Upstream's v1.1 runs the runtime for an answer, but zombies are a sign already.
func slow(s *scan.Shim) time.Duration {
	if len(s.Zombies) > 0 {
		return 100 * time.Millisecond
	}
	return 250 * time.Millisecond
}

// explain takes the stacks of a shim and explains them. It returns nil if they cannot be had.
func (c *Checker) explain(ctx context.Context, s *scan.Shim) *stackdump.Report {
	taken, err := c.Stacks.Take(ctx, s, stacks.Auto, 5*c.Limit)
	if err != nil || !taken.Dump.Complete {
		return nil
	}
	return stackdump.Explain(taken.Dump)
}

// taskGone asks the shim's daemon for the task; nil is no answer. A shim that
// has ended meanwhile was being deleted.
func (c *Checker) taskGone(ctx context.Context, round *Round, s *scan.Shim) *bool {
	if _, ok := round.silent.Load(s.Address); ok {
		return nil
	}
	d, err := daemon.Of(c.Proc, s)
	if err != nil {
		return nil
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	gone, err := d.TaskGone(ctx, s.Namespace, s.ID, s.Init.PID)
	if err != nil {
		round.silent.Store(s.Address, nil)
		return nil
	}
	gone = gone && scan.Alive(c.Proc, s.PID, s.StartTicks)
	return &gone
}

// ErrDenied is returned when a shim could not be asked.
var ErrDenied = fmt.Errorf("some shims cannot be asked: %w", os.ErrPermission)

// Denied reports whether a shim could not be asked for want of a right.
func (r *Round) Denied() bool {
	for _, row := range r.Rows {
		if row.Answers.ShimInfo.Denied {
			return true
		}
	}
	return false
}

// Count is how many rows have the verdict.
func (r *Round) Count(v health.Verdict) (n int) {
	for _, row := range r.Rows {
		if row.Result.Verdict == v {
			n++
		}
	}
	return n
}
