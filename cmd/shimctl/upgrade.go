// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/evidence"
	"containerd-shim.v1/cmd/shimctl/internal/repair"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// defaultBinary is where the packages put this project's shim.
const defaultBinary = "/usr/bin/containerd-shim"

// upgrader is one run of upgrade.
type upgrader struct {
	program
	all, yes    bool
	binary, dir string
	patience    time.Duration
	maxFailures int
	failures    int
}

func (p program) upgradeVerb() verb {
	return verb{
		name: "upgrade", args: "ID|PID... | -all", short: "exchange the program of running shims, without their containers noticing",
		long: `The process of a shim stays, with its pid, children, sockets, pipes and terminals; its
program is exchanged for this project's by execve(2): by itself if it is this project's
already, from outside if it is upstream's. What clients wait for is answered by the new
program. Without -yes it says what would be taken over and what would be lost, or why it
cannot be done: for that a shim of upstream's gets SIGUSR1, is traced for a moment, and
stands still for some milliseconds.

With -yes evidence is saved first (see shimctl report -list), and the new program is asked
whether it can read what it is to take over. Until the very execve nothing is changed, and
if that fails, or shimctl is killed at any point, the shim runs on, with one program or the
other. A shim that is at work at the moment (a call of the runtime, output that waits for
its reader) is tried again until -patience is over.

Refused are releases that were not tried, a container that is being created or deleted,
binary:// loggers, a frozen or traced shim, other architectures than amd64, and what
does not look as it should in the shim's memory. The container's annotation
shimctl.repair=never is obeyed.

exit status: 0 all done, 1 some are not upgraded (also of a dry run), 2 could not look,
3 exchanged, and the new program does not answer, 64 usage

examples:
  shimctl upgrade -all
  shimctl upgrade -yes 3776
  shimctl upgrade -all -yes -binary /opt/shim/containerd-shim`,
		flags: func(set *flag.FlagSet) func(context.Context, []string) int {
			u := &upgrader{program: p}
			set.BoolVar(&u.all, "all", false, "every v1 shim of this host, one after the other")
			set.BoolVar(&u.yes, "yes", false, "act; without it no program is exchanged")
			set.StringVar(&u.binary, "binary", defaultBinary, "`path` of the new program, where the shim sees it")
			set.DurationVar(&u.patience, "patience", 10*time.Second, "`time` to wait for a shim that is at work")
			set.IntVar(&u.maxFailures, "max-failures", 1, "stop after so many that went wrong")
			set.StringVar(&u.dir, "dir", "/var/lib/shimctl", "`directory` of lock and evidence")
			return u.run
		},
	}
}

func (u *upgrader) run(ctx context.Context, args []string) int {
	if u.all == (len(args) > 0) {
		return u.fail(exitUsage, "upgrade", errors.New("give shims, or -all, and not both"))
	}
	all, err := scan.Find(u.proc, args)
	if err != nil {
		return u.fail(exitCheck, "upgrade", err)
	}
	for i := range all {
		if s := &all[i]; s.Hidden {
			return u.fail(exitCheck, "upgrade", fmt.Errorf("%s pid %d: its program cannot be read: %w", s.Name(), s.PID, os.ErrPermission))
		}
	}
	if u.yes {
		lock, err := repair.Lock(filepath.Join(u.dir, "lock"))
		if err != nil {
			return u.fail(exitCheck, "upgrade", err)
		}
		defer lock.Close()
	}
	status := exitOK
	for i := range all {
		if u.all && all[i].Kind != scan.V1 {
			continue
		}
		if u.failures >= u.maxFailures {
			fmt.Fprintf(u.out, "%s pid %d and what comes after it: not upgraded: %d went wrong\n", all[i].Name(), all[i].PID, u.failures)
			return max(status, exitSome)
		}
		status = max(status, u.one(ctx, &all[i]))
	}
	return status
}

// one upgrades a shim, or says what that would do or why it is not done.
func (u *upgrader) one(ctx context.Context, s *scan.Shim) int {
	name := fmt.Sprintf("%s pid %d", s.Name(), s.PID)
	if takeover.Runs(s, u.binary) {
		fmt.Fprintf(u.out, "%s: runs it already\n", name)
		return exitOK
	}
	if s.Build.Ours && s.Kind == scan.V1 {
		return u.ours(ctx, s, name)
	}
	why := takeover.Refuse(s)
	if why == "" {
		why = repair.OptedOut(u.proc, s.PID)
	}
	if why != "" {
		fmt.Fprintf(u.out, "%s: not upgraded: %s\n", name, why)
		return exitSome
	}
	if !u.yes {
		return u.look(ctx, s, name)
	}
	if err := takeover.CheckBinary(s, u.binary); err != nil {
		return u.failed(s, name, "not upgraded", err)
	}
	taken, err := u.taker().Take(ctx, s, stacks.Auto, u.patience)
	if err != nil {
		return u.failed(s, name, "no stack dump", err)
	}
	dir, err := u.saveEvidence(u.dir, s, evidence.Collect(u.proc, s, nil, taken, ""))
	if err != nil {
		return u.failed(s, name, "the evidence cannot be saved", err)
	}
	o, err := u.tracer().Swap(ctx, s, u.binary, false, u.patience)
	if errors.Is(err, takeover.ErrNotAnswering) {
		u.failures++
		return u.fail(exitUnverified, "upgrade", fmt.Errorf("%s: %w; evidence in %s", name, err, dir))
	}
	if err != nil {
		return u.failed(s, name, "not upgraded", err)
	}
	fmt.Fprintf(u.out, "%s: upgraded: %s; it stood still for %s and answered %s later\n", name, takenOver(o),
		o.Stopped.Round(100*time.Microsecond), o.Answered.Round(time.Millisecond))
	return exitOK
}

// failed says that a shim runs its old program.
func (u *upgrader) failed(s *scan.Shim, name, what string, err error) int {
	u.failures++
	err = orEnded(u.proc, s, err)
	fmt.Fprintf(u.out, "%s: %s: %v%s\n", name, what, err, hint(err))
	return exitSome
}

// orEnded is err, or that the shim has ended, whatever that has made impossible.
func orEnded(proc string, s *scan.Shim, err error) error {
	if scan.Alive(proc, s.PID, s.StartTicks) {
		return err
	}
	return errors.New("the shim has ended meanwhile")
}

// look is the dry run.
func (u *upgrader) look(ctx context.Context, s *scan.Shim, name string) int {
	o, err := u.tracer().Look(ctx, s, false, u.patience)
	if err == nil {
		err = o.Err()
	}
	if err == nil {
		err = takeover.CheckBinary(s, u.binary)
	}
	if err != nil {
		err = orEnded(u.proc, s, err)
		fmt.Fprintf(u.out, "%s: cannot be upgraded: %v%s\n", name, err, hint(err))
		return exitSome
	}
	fmt.Fprintf(u.out, "%s: would take over %s; it would stand still for about %s\n  to do it: shimctl upgrade -yes -binary %s %d\n",
		name, takenOver(o), o.Stopped.Round(time.Millisecond), u.binary, s.PID)
	return exitSome
}

// takenOver says what is, or would be, taken over and lost.
func takenOver(o *takeover.Outcome) string {
	r := o.Report
	calls := map[string]int{}
	errs := 0
	var order []string
	for _, c := range r.Requests {
		if !c.Answered {
			errs++
			continue
		}
		if calls[c.Method] == 0 {
			order = append(order, c.Method)
		}
		calls[c.Method]++
	}
	text := fmt.Sprintf("%d processes (upstream %s)", r.Processes, r.Release)
	if len(order) > 0 {
		var parts []string
		for _, m := range order {
			parts = append(parts, fmt.Sprintf("%d %s", calls[m], m))
		}
		text += ", unanswered calls: " + strings.Join(parts, ", ")
	}
	if r.Exits > 0 {
		text += fmt.Sprintf(", %d exits to be published", r.Exits)
	}
	lost := r.Lost
	if r.Unknown > 0 {
		lost = append(lost, fmt.Sprintf("how %d processes have ended", r.Unknown))
	}
	if errs > 0 {
		lost = append(lost, fmt.Sprintf("the results of %d calls, which are answered with an error", errs))
	}
	if len(lost) > 0 {
		text += "; lost: " + strings.Join(lost, ", ")
	}
	return text
}

// saveEvidence writes the evidence below dir and returns where it is.
func (p program) saveEvidence(dir string, s *scan.Shim, files []evidence.File) (string, error) {
	name := fmt.Sprintf("%s.%s.%d.%s", s.Namespace, s.ID, s.PID, p.now().UTC().Format("20060102T150405Z"))
	dir = filepath.Join(dir, "evidence", name)
	return dir, evidence.Save(dir, files)
}
