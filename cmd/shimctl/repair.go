// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/daemon"
	"containerd-shim.v1/cmd/shimctl/internal/evidence"
	"containerd-shim.v1/cmd/shimctl/internal/heal"
	"containerd-shim.v1/cmd/shimctl/internal/judge"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/stackdump"
)

// exitUnverified is repair's status for a kill that did not heal.
const exitUnverified = 3

// repairer is one run of repair.
type repairer struct {
	checkFlags
	heal.Policy
	all, yes bool
	dir      string // ledger, lock and evidence
	onReason string
	killed   int
}

// daemonOf connects to a shim's containerd, replaced by tests.
var daemonOf = connect

var repairVerb = verb{
	name: "repair", args: "ID|PID... | -all", short: "end wedged shims, after saying what that costs",
	long: `Without -yes it only says what it would do, and why not: no process is ended
and nothing is written below -dir. It looks as check -confirm does, for which a
shim with a sign gets SIGUSR1 and may be traced for a moment. With -yes it kills a
shim (SIGKILL) whose wedge a goroutine dump proves, and only then:

  - its containerd answers: otherwise the container would run on unwatched
  - it is a v1 shim and not this project's
  - the container has no annotation shimctl.repair=never
  - a second dump, taken right before, still shows the cycle
  - cool-down, hourly cap and the host's lock allow it

Evidence (see shimctl report -list) is on disk before. Afterwards it waits until
shim, zombies, init and containerd's task are gone.

The container ends with status 137; execs and unread output are lost. A restart
policy or the kubelet starts it again. Other containers are not touched.

exit status: 0 nothing to do or all repaired, 1 wedged shims are left (also of a
dry run), 2 could not check, 3 killed but not healed, 64 usage

examples:
  shimctl repair -all
  shimctl repair -yes 3776
  shimctl repair -all -yes -max-per-run 1 -on-reason ReaperDeadlock   # a timer`,
	flags: func(set *flag.FlagSet) func(context.Context, []string) int {
		r := &repairer{Policy: heal.Default}
		r.define(set)
		set.BoolVar(&r.all, "all", false, "every wedged v1 shim of this host")
		set.BoolVar(&r.yes, "yes", false, "act; without it no process is ended")
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

func connect(s *row) (heal.Daemon, func(), error) {
	c, err := daemon.Of(procRoot, &s.Shim)
	if err != nil {
		return nil, nil, err
	}
	return c, func() { _ = c.Close() }, nil
}

func (r *repairer) run(ctx context.Context, args []string) int {
	if r.all == (len(args) > 0) {
		return fail(exitUsage, "repair", errors.New("give shims, or -all, and not both"))
	}
	if r.onReason != "" {
		r.Reasons = strings.Split(r.onReason, ",")
	}
	r.samples, r.confirm = 1, true
	seen, err := r.rounds(ctx, args)
	if err != nil {
		return fail(exitCheck, "repair", err)
	}
	if seen.denied() {
		return fail(exitCheck, "repair", errDenied)
	}
	if r.yes {
		lock, err := heal.Lock(filepath.Join(r.dir, "lock"))
		if err != nil {
			return fail(exitCheck, "repair", err)
		}
		defer lock.Close()
	}
	ledger, err := heal.OpenLedger(filepath.Join(r.dir, "repairs.json"))
	if err != nil {
		return fail(exitCheck, "repair", err)
	}
	status := exitOK
	for i := range seen.Rows {
		s := &seen.Rows[i]
		if s.Result.Verdict == judge.Wedged || !r.all {
			status = max(status, r.one(ctx, s, ledger))
		}
	}
	if status == exitOK && r.killed == 0 {
		fmt.Fprintln(out, "nothing to do")
	}
	return status
}

// one repairs a shim, or says what it would do or why it does not.
func (r *repairer) one(ctx context.Context, s *row, ledger *heal.Ledger) int {
	c := &heal.Case{Shim: s.Shim, Result: s.Result}
	name := fmt.Sprintf("%s pid %d", s.Name(), s.PID)
	left := exitSome
	if s.Result.Verdict != judge.Wedged {
		left = exitOK
	}
	if why := r.Refuse(procRoot, c); why != "" {
		fmt.Fprintf(out, "%s: not repaired: %s\n", name, why)
		return left
	}
	d, done, err := daemonOf(s)
	if err != nil {
		return fail(exitCheck, "repair", err)
	}
	defer done()
	ask, cancel := context.WithTimeout(ctx, r.limit)
	version, err := d.Version(ask)
	cancel()
	if err != nil {
		fmt.Fprintf(out, "%s: not repaired: %v: the container would run on with nobody to watch it\n", name, err)
		return exitSome
	}
	why := r.Wait(ledger, time.Now())
	if r.killed >= r.PerRun {
		why = fmt.Sprintf("this run has repaired %d", r.killed)
	}
	if !r.yes {
		fmt.Fprintf(out, "%s: %s: would save evidence below %s and send SIGKILL.\n  %s\n", name, s.Result.Reason, r.dir, c.Lost())
		if why != "" {
			fmt.Fprintf(out, "  but not now: %s\n", why)
		}
		fmt.Fprintf(out, "  to do it: shimctl repair -yes %d\n", s.PID)
		return exitSome
	}
	if why != "" {
		fmt.Fprintf(out, "%s: not repaired now: %s\n", name, why)
		return exitSome
	}
	if why := r.again(ctx, s, version); why != "" {
		fmt.Fprintf(out, "%s: not repaired: %s\n", name, why)
		return exitSome
	}
	return r.kill(ctx, c, d, ledger)
}

// again takes a second dump, saves it with the rest, and says what has changed.
func (r *repairer) again(ctx context.Context, s *row, version string) string {
	taken, err := stacks.Take(ctx, procRoot, &s.Shim, stacks.Auto, 5*r.limit)
	switch {
	case err != nil && !r.Unproven:
		return fmt.Sprintf("no second dump: %v", err)
	case err == nil && !r.Unproven && stackdump.Explain(taken.Dump).Worst() != stackdump.Deadlock:
		return "the second dump shows no closed cycle any more"
	}
	dir := filepath.Join(r.dir, "evidence", fmt.Sprintf("%s.%s.%d.%s", s.Namespace, s.ID, s.PID, time.Now().UTC().Format("20060102T150405Z")))
	if err := evidence.Save(dir, evidence.Collect(procRoot, &s.Shim, s.Result, taken, version)); err != nil {
		return fmt.Sprintf("the evidence cannot be saved: %v", err)
	}
	fmt.Fprintf(out, "%s pid %d: evidence in %s\n", s.Name(), s.PID, dir)
	return ""
}

func (r *repairer) kill(ctx context.Context, c *heal.Case, d heal.Daemon, ledger *heal.Ledger) int {
	r.killed++
	// The ledger comes first: a kill that is not in it would not count.
	entry := heal.Entry{Time: time.Now(), Shim: c.Shim.Name(), PID: c.Shim.PID, Reason: c.Result.Reason, Result: heal.Running}
	if err := ledger.Add(entry); err != nil {
		return fail(exitCheck, "repair", err)
	}
	err := heal.Kill(procRoot, &c.Shim)
	if err == nil {
		err = heal.Verify(ctx, procRoot, c, d, r.Verify)
	}
	if err != nil {
		err = fmt.Errorf("%s pid %d: %w", c.Shim.Name(), c.Shim.PID, err)
		return fail(exitUnverified, "repair", errors.Join(err, ledger.Finish(heal.Failed)))
	}
	took := time.Since(entry.Time).Round(10 * time.Millisecond)
	if err := ledger.Finish(heal.Repaired); err != nil {
		return fail(exitCheck, "repair", err)
	}
	fmt.Fprintf(out, "%s pid %d: repaired (%s): shim, %d zombies and init are gone, containerd has noticed; took %s\n",
		c.Shim.Name(), c.Shim.PID, c.Result.Reason, len(c.Shim.Zombies), took)
	return exitOK
}
