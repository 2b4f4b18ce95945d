// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/health"
)

// checkFlags are what check was asked to do.
type checkFlags struct {
	checker
	samples   int
	interval  time.Duration
	format    string
	stateFile string
	failOn    string
}

var checkVerb = verb{
	name: "check", args: "[ID|PID...]", short: "probe the v1 shims and judge them",
	long: `Judges each v1 shim: Healthy, Suspect or Wedged, with a reason.

Wedged takes two samples a minute apart (ShimInfo answered, State not, or the
same children unreaped), or with -confirm a goroutine dump with a closed cycle,
which proves it at once. Samples of earlier runs count: they are in the state
file, so a timer or node-problem-detector needs no -samples.

State is asked sparingly: a wedged shim keeps a goroutine for each. A shim that
is stopped, traced, frozen, starting, in disk sleep, or busy with a runc is at
most Suspect.

exit status: 0 none wedged, 1 at least one wedged (with -fail-on suspect: or
suspect), 2 could not check, 64 usage. With -o nagios: 0 OK, 1 WARNING (suspect),
2 CRITICAL (wedged), 3 UNKNOWN.

examples:
  shimctl check -confirm
  shimctl check -n moby
  shimctl check -samples 2 -interval 60s
  shimctl check -o json 0b6e455ae5fe
  shimctl check -o npd            # for node-problem-detector`,
	flags: func(set *flag.FlagSet) func(context.Context, []string) int {
		c := &checkFlags{}
		c.define(set)
		set.StringVar(&c.namespace, "n", "", "only this containerd `namespace`")
		set.IntVar(&c.samples, "samples", 1, "how often to look, -interval apart")
		set.DurationVar(&c.interval, "interval", time.Minute, "time between two samples")
		set.StringVar(&c.format, "o", "table", "`format`: table, json, npd, prom or nagios")
		set.StringVar(&c.failOn, "fail-on", "wedged", "which verdict makes exit status 1: wedged or suspect")
		return c.run
	},
}

// define adds the flags that check, export and repair share.
func (c *checkFlags) define(set *flag.FlagSet) {
	set.DurationVar(&c.limit, "timeout", 2*time.Second, "limit for each call to a shim")
	set.BoolVar(&c.confirm, "confirm", false, "take the stacks of a shim with a sign, as proof")
	set.StringVar(&c.state, "state", "auto", "ask State: auto, always or never")
	set.StringVar(&c.stateFile, "state-file", defaultStateFile, "`file` that keeps samples between runs; empty for none")
}

func (c *checkFlags) run(ctx context.Context, args []string) int {
	if formats[c.format] == nil || c.samples < 1 || c.failOn != "wedged" && c.failOn != "suspect" {
		return fail(exitUsage, "check", errors.New("unknown -o or -fail-on, or -samples below 1; `shimctl check -h`"))
	}
	r, err := c.rounds(ctx, args)
	if err != nil {
		status := fail(exitCheck, "check", err)
		if c.format == "nagios" {
			fmt.Fprintln(out, "UNKNOWN -", err)
			return 3
		}
		return status
	}
	// The reason comes before what it is the reason of.
	status := exitOK
	if r.denied() {
		status = fail(exitCheck, "check", errDenied)
		if c.format == "nagios" && r.count(health.Wedged) == 0 {
			fmt.Fprintln(out, "UNKNOWN -", errDenied)
			return 3
		}
	}
	if c.format == "table" && len(r.Rows) == 0 && r.V2 > 0 {
		fmt.Fprintf(errs, "shimctl check: no v1 shim; %d v2 shims are not judged\n", r.V2)
	}
	if err := formats[c.format](out, r); err != nil {
		return fail(exitCheck, "check", err)
	}
	wedged, suspect := r.count(health.Wedged) > 0, r.count(health.Suspect) > 0
	switch {
	case c.format == "nagios" && wedged:
		return 2
	case c.format == "nagios" && suspect:
		return 1
	case wedged || suspect && c.failOn == "suspect":
		return exitSome
	}
	return status
}

// rounds looks as often as asked, remembers, and returns the last round.
func (c *checkFlags) rounds(ctx context.Context, args []string) (*round, error) {
	var err error
	if c.memory, err = health.Load(c.stateFile); err != nil {
		return nil, err
	}
	var r *round
	for i := range max(c.samples, 1) {
		if i > 0 {
			timer := time.NewTimer(c.interval)
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil, ctx.Err()
			case <-timer.C:
			}
		}
		if r, err = c.look(ctx, args); err != nil {
			return nil, err
		}
	}
	if r.denied() { // nor may we write
		return r, nil
	}
	return r, c.memory.Store(c.stateFile, keep())
}
