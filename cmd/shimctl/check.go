// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/rounds"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// checkFlags is one run of check, or of a verb that begins with one.
type checkFlags struct {
	program
	rounds.Checker
	format string
	failOn string
}

// checker returns a run of check on this host, before its flags are parsed.
func (p program) checker() checkFlags {
	return checkFlags{program: p, Checker: rounds.Checker{Proc: p.proc, Now: p.now, Stacks: p.taker()}}
}

func (p program) checkVerb() verb {
	return verb{
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
			c := p.checker()
			c.define(set)
			set.StringVar(&c.Namespace, "n", "", "only this containerd `namespace`")
			set.IntVar(&c.Samples, "samples", 1, "how often to look, -interval apart")
			set.DurationVar(&c.Interval, "interval", time.Minute, "time between two samples")
			set.StringVar(&c.format, "o", "table", "`format`: table, json, npd, prom or nagios")
			set.StringVar(&c.failOn, "fail-on", "wedged", "which verdict makes exit status 1: wedged or suspect")
			return c.run
		},
	}
}

// define adds the flags that check, export and repair share.
func (c *checkFlags) define(set *flag.FlagSet) {
	set.DurationVar(&c.Limit, "timeout", 2*time.Second, "limit for each call to a shim")
	set.BoolVar(&c.Confirm, "confirm", false, "take the stacks of a shim with a sign, or slow to answer State, as proof")
	c.State = rounds.Auto
	set.TextVar(&c.State, "state", c.State, "ask State: auto, always or never")
	set.StringVar(&c.StateFile, "state-file", rounds.DefaultStateFile, "`file` that keeps samples between runs; empty for none")
}

func (c *checkFlags) run(ctx context.Context, args []string) int {
	if formats[c.format] == nil || c.Samples < 1 || c.failOn != "wedged" && c.failOn != "suspect" {
		return c.fail(exitUsage, "check", errors.New("unknown -o or -fail-on, or -samples below 1; `shimctl check -h`"))
	}
	r, err := c.Sample(ctx, args)
	if err != nil {
		status := c.fail(exitCheck, "check", err)
		if c.format == "nagios" {
			fmt.Fprintln(c.out, "UNKNOWN -", err)
			return 3
		}
		return status
	}
	// Why some shims could not be asked is printed before the table.
	status := exitOK
	if r.Denied() {
		status = c.fail(exitCheck, "check", rounds.ErrDenied)
		if c.format == "nagios" && r.Count(health.Wedged) == 0 {
			fmt.Fprintln(c.out, "UNKNOWN -", rounds.ErrDenied)
			return 3
		}
	}
	if c.format == "table" && r.Foreign > 0 {
		fmt.Fprintf(c.errs, "shimctl check: %d that look like shims are not judged: %s\n", r.Foreign, scan.WhyForeign)
	}
	if c.format == "table" && len(r.Rows) == 0 && r.V2 > 0 {
		fmt.Fprintf(c.errs, "shimctl check: no v1 shim; %d v2 shims are not judged\n", r.V2)
	}
	if err := formats[c.format](c.out, r); err != nil {
		return c.fail(exitCheck, "check", err)
	}
	wedged, suspect := r.Count(health.Wedged) > 0, r.Count(health.Suspect) > 0
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
