// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/evidence"
	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/repair"
	"containerd-shim.v1/cmd/shimctl/internal/rounds"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
	"containerd-shim.v1/internal/stackdump"
)

// exitUnverified is the status for a shim that was killed or exchanged without the
// result that was wanted.
const exitUnverified = 3

// repairer is one run of repair.
type repairer struct {
	checkFlags
	repair.Policy
	all, yes bool
	end      bool   // -kill
	binary   string // the program to heal with, "" for none
	sum      string // its SHA-256, "" for any
	dir      string // ledger, lock and evidence
	onReason string
	acted    int
	tally    *repair.Tally
}

func (p program) repairVerb() verb {
	return verb{
		name: "repair", args: "ID|PID... | -all", short: "heal wedged shims in place, or end them",
		long: `Without -yes it only says what it would do, and why not: no program is exchanged, no
process is ended, and nothing is written below -dir. It looks as check -confirm does: a
shim with a sign, or that has not answered State after 250 ms, or 100 ms if it has
zombies, gets SIGUSR1 and may be traced for a moment. With -yes it acts on a shim whose wedge a goroutine dump proves,
and only then.

In place is tried first: the shim's program is exchanged for this project's (see shimctl
upgrade), which reaps, publishes the exits and answers the calls that hang. The
container runs on. With -kill a shim that cannot be healed so gets SIGKILL, unless the reason is
that -binary names no shim of this project; with -binary '' each does. What is needed:

  - for a kill its containerd answers: otherwise the container would run on unwatched
  - it is a v1 shim and not this project's
  - the container has no annotation shimctl.repair=never
  - a second dump, taken right before, still shows the cycle
  - cool-down, hourly cap and the host's lock allow it

Evidence (see shimctl report -list) is on disk before. After a kill it waits until
shim, zombies, init and containerd's task are gone: the container ends with status 137;
execs and unread output are lost. A restart policy or the kubelet starts it
again. Other containers are not touched.

exit status: 0 nothing to do or all repaired, 1 wedged shims are left (also of a
dry run), 2 could not check, or not write down what was done, 3 exchanged or
killed and not healed, 64 usage

examples:
  shimctl repair -all
  shimctl repair -yes 3776
  shimctl repair -yes -kill 3776
  shimctl repair -all -yes -max-per-run 1 -on-reason ReaperDeadlock   # a timer`,
		flags: func(set *flag.FlagSet) func(context.Context, []string) int {
			r := &repairer{checkFlags: p.checker(), Policy: repair.Default}
			r.define(set)
			set.StringVar(&r.Namespace, "n", "", "only this containerd `namespace`")
			set.BoolVar(&r.all, "all", false, "every wedged v1 shim of this host")
			set.BoolVar(&r.yes, "yes", false, "act; without it no process is ended")
			set.BoolVar(&r.end, "kill", false, "end a shim that cannot be healed in place")
			set.StringVar(&r.binary, "binary", defaultBinary(os.Executable), "`path` of this project's shim, where the wedged one sees it")
			set.StringVar(&r.sum, "sha256", "", "that program's `checksum`; another one is refused")
			set.BoolVar(&r.Unproven, "unproven", false, "also act on a wedge that only time has shown")
			set.StringVar(&r.onReason, "on-reason", "", "act on these `reasons` only, comma separated")
			set.DurationVar(&r.Cooldown, "cooldown-time", r.Cooldown, "time between two repairs on this host")
			set.IntVar(&r.PerHour, "max-per-hour", r.PerHour, "repairs in an hour on this host")
			set.IntVar(&r.PerRun, "max-per-run", r.PerRun, "repairs in this run")
			set.DurationVar(&r.Verify, "verify", r.Verify, "time for everything to be gone afterwards")
			set.StringVar(&r.dir, "dir", "/var/lib/shimctl", "`directory` of ledger, lock and evidence")
			return r.run
		},
	}
}

func (r *repairer) run(ctx context.Context, args []string) int {
	if r.all == (len(args) > 0) {
		return r.fail(exitUsage, "repair", errors.New("give shims, or -all, and not both"))
	}
	if err := takeover.CheckSum(r.sum); err != nil {
		return r.fail(exitUsage, "repair", err)
	}
	if r.onReason != "" {
		r.Reasons = strings.Split(r.onReason, ",")
	}
	for _, reason := range r.Reasons { // a timer with a misspelt one would never act
		if !slices.Contains(health.WedgeReasons, reason) {
			return r.fail(exitUsage, "repair", fmt.Errorf("-on-reason: no wedged shim has the reason %q, but one of %s", reason, strings.Join(health.WedgeReasons, ", ")))
		}
	}
	r.Confirm = true
	if r.Unproven && r.State == rounds.Auto { // what is remembered may be over
		r.State = rounds.Always
	}
	seen, err := r.Sample(ctx, args)
	if err != nil {
		return r.fail(exitCheck, "repair", err)
	}
	if seen.Denied() {
		return r.fail(exitCheck, "repair", rounds.ErrDenied)
	}
	if r.yes {
		lock, err := repair.Lock(filepath.Join(r.dir, "lock"))
		if err != nil {
			return r.fail(exitCheck, "repair", err)
		}
		defer lock.Close()
	}
	ledger, err := repair.OpenLedger(filepath.Join(r.dir, "repairs.json"))
	if err != nil {
		return r.fail(exitCheck, "repair", err)
	}
	if r.tally, err = repair.OpenTally(r.dir); err != nil {
		return r.fail(exitCheck, "repair", err)
	}
	status := exitOK
	for i := range seen.Rows {
		if ctx.Err() != nil {
			return r.fail(max(status, exitSome), "repair", ctx.Err())
		}
		s := &seen.Rows[i]
		if s.Result.Verdict == health.Wedged || !r.all {
			status = max(status, r.one(ctx, s, ledger))
		}
	}
	if status == exitOK && r.acted == 0 {
		fmt.Fprintln(r.out, "nothing to do")
	}
	return status
}

// one repairs a shim, or says what it would do or why it does not.
func (r *repairer) one(ctx context.Context, s *rounds.Row, ledger *repair.Ledger) int {
	c := &repair.Case{Shim: s.Shim, Result: s.Result}
	name := fmt.Sprintf("%s pid %d", s.Name(), s.PID)
	left := exitSome
	if s.Result.Verdict != health.Wedged {
		left = exitOK
	}
	if why := r.Refuse(r.proc, c); why != "" {
		fmt.Fprintf(r.out, "%s: not repaired: %s\n", name, why)
		return left
	}
	why := r.Wait(ledger, r.now())
	if r.acted >= r.PerRun {
		why = fmt.Sprintf("this run has repaired %d", r.acted)
	}
	if !r.yes {
		r.dry(ctx, c, name, why)
		return exitSome
	}
	if why != "" {
		fmt.Fprintf(r.out, "%s: not repaired now: %s\n", name, why)
		return exitSome
	}
	version, unwatched := r.daemon(ctx, s)
	impossible := r.refused(c)
	if impossible != nil && !r.mayKill(name, impossible, unwatched) {
		return exitSome
	}
	if why := r.again(ctx, s, version); why != "" {
		fmt.Fprintf(r.out, "%s: not repaired: %s\n", name, why)
		return exitSome
	}
	if impossible == nil {
		healed, err := r.inPlace(ctx, c, ledger)
		switch {
		case errors.Is(err, errUnwritten):
			return r.fail(exitCheck, "repair", fmt.Errorf("%s: %w", name, err))
		case healed && err != nil:
			return r.fail(exitUnverified, "repair", fmt.Errorf("%s: %w", name, err))
		case healed:
			return exitOK
		case !takeover.Hopeless(err):
			fmt.Fprintf(r.out, "%s: not repaired: it could not be healed in place this time: %v%s\n", name, err, hint(err))
			return exitSome
		case !r.mayKill(name, err, unwatched):
			return exitSome
		}
		impossible = err
		if why := r.again(ctx, s, version); why != "" { // the attempt took a while
			fmt.Fprintf(r.out, "%s: not repaired: %s\n", name, why)
			return exitSome
		}
	}
	d, err := r.connect(&s.Shim)
	if err != nil {
		return r.fail(exitCheck, "repair", err)
	}
	defer d.Close()
	// Its containerd may have gone down meanwhile.
	if _, unwatched := r.daemon(ctx, s); !r.mayKill(name, impossible, unwatched) {
		return exitSome
	}
	return r.kill(ctx, c, d, ledger)
}

// mayKill reports whether to kill a shim that cannot be healed in place. If not, it
// prints the reason.
func (r *repairer) mayKill(name string, impossible, unwatched error) bool {
	switch {
	case errors.Is(impossible, errBinary):
		fmt.Fprintf(r.out, "%s: not repaired: it cannot be healed in place: %v%s\n%s", name, impossible, hint(impossible), otherBinary)
	case !r.end:
		fmt.Fprintf(r.out, "%s: not repaired: it cannot be healed in place: %v%s\n  -kill ends it\n", name, impossible, hint(impossible))
	case unwatched != nil:
		fmt.Fprintf(r.out, "%s: not repaired: %v: the container would keep running unsupervised\n", name, unwatched)
	default:
		return true
	}
	return false
}

// daemon returns the version of the shim's containerd, or why it does not answer.
func (r *repairer) daemon(ctx context.Context, s *rounds.Row) (string, error) {
	d, err := r.connect(&s.Shim)
	if err != nil {
		return "", err
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(ctx, r.Limit)
	defer cancel()
	return d.Version(ctx)
}

// again takes a second dump and saves it with the other evidence. It returns why
// the shim must not be repaired after all, or "".
func (r *repairer) again(ctx context.Context, s *rounds.Row, version string) string {
	taken, err := r.taker().Take(ctx, &s.Shim, stacks.Auto, 5*r.Limit)
	proven := err == nil && stackdump.Explain(taken.Dump).Worst() == stackdump.Deadlock
	if !proven && r.Unproven { // the wedge may have been a stall that has ended
		a := probe.Ask(ctx, r.proc, &s.Shim, probe.Question{Limit: r.Limit, State: true})
		if a.State.OK {
			return "it answers State"
		}
	}
	switch {
	case ctx.Err() != nil:
		return "interrupted"
	case err != nil && !r.Unproven:
		return fmt.Sprintf("no second dump: %v", err)
	case !proven && !r.Unproven:
		return "the second dump shows no closed cycle any more"
	}
	dir, err := r.saveEvidence(r.dir, &s.Shim, evidence.Collect(r.proc, &s.Shim, s.Result, taken, version))
	if err != nil {
		return fmt.Sprintf("the evidence cannot be saved: %v", err)
	}
	fmt.Fprintf(r.out, "%s pid %d: evidence in %s\n", s.Name(), s.PID, dir)
	return ""
}

func (r *repairer) kill(ctx context.Context, c *repair.Case, d repair.Daemon, ledger *repair.Ledger) int {
	r.acted++
	// The ledger comes first: a kill that is not in it would not count.
	entry := repair.Entry{Time: r.now(), Shim: c.Shim.Name(), PID: c.Shim.PID, Reason: c.Result.Reason, Result: repair.Running}
	if err := ledger.Add(entry); err != nil {
		return r.fail(exitCheck, "repair", err)
	}
	err := repair.Kill(r.proc, &c.Shim)
	if err == nil { // it is not cut short: -verify bounds it
		err = repair.Verify(context.WithoutCancel(ctx), r.proc, c, d, r.Verify)
	}
	if err != nil {
		err = fmt.Errorf("%s pid %d: %w", c.Shim.Name(), c.Shim.PID, err)
		return r.fail(exitUnverified, "repair", errors.Join(err, ledger.Finish(repair.Failed)))
	}
	took := r.now().Sub(entry.Time).Round(10 * time.Millisecond)
	unwritten := booked(ledger.Finish(repair.Repaired))
	fmt.Fprintf(r.out, "%s pid %d: repaired (%s): shim, %d zombies and init are gone, containerd has noticed; took %s\n",
		c.Shim.Name(), c.Shim.PID, c.Result.Reason, len(c.Shim.Zombies), took)
	if unwritten != nil {
		return r.fail(exitCheck, "repair", fmt.Errorf("%s pid %d: %w", c.Shim.Name(), c.Shim.PID, unwritten))
	}
	return exitOK
}
