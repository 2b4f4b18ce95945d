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
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/evidence"
	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/repair"
	"containerd-shim.v1/cmd/shimctl/internal/rounds"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// defaultBinary returns where this project's shim is: below the prefix that shimctl is
// installed in, if it is there, or where the packages put it. What /usr/bin has may be
// upstream's.
func defaultBinary(executable func() (string, error)) string {
	const installed = "lib/containerd-shim/containerd-shim"
	if self, err := executable(); err == nil {
		path := filepath.Join(filepath.Dir(filepath.Dir(self)), installed)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "/usr/" + installed
}

// stateLimit bounds a question whether a shim is wedged, of which more follow, and
// aliveLimit the one whether a new program answers, after which none does.
const (
	stateLimit = 2 * time.Second
	aliveLimit = 10 * time.Second
)

// upgrader is one run of upgrade.
type upgrader struct {
	program
	all, yes    bool
	namespace   string
	onlyWedged  bool
	refusedOK   bool
	binary, sum string
	dir         string
	stateFile   string
	format      string
	patience    time.Duration
	maxFailures int
	tally       *repair.Tally // nil in a dry run
	unproven    map[int]bool  // pids of wedged shims without a dump as proof
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

With -yes evidence of a shim of upstream's is saved first (see shimctl report -list), and the new program is asked
whether it can read what it is to take over. Until the very execve nothing is changed, and
if that fails, or shimctl is killed at any point, the shim runs on, with one program or the
other. A shim that is at work at the moment (a call of the runtime, output that waits for
its reader) is tried again until -patience is over. With -yes, after three attempts, calls
to it are held for up to a second, so that those that have begun can end.

Refused are releases that were not tried, a container that is being created or deleted,
binary:// loggers, a frozen or traced shim, other architectures than amd64, and what
does not look as it should in the shim's memory. The container's annotation
shimctl.repair=never is obeyed.

With -only-wedged it looks as check -confirm does, and takes only those shims whose wedge
a goroutine dump proves: all of them, without repair's limits of time and its second dump.
With -all the shims come one after the other, and with -yes it stops at the first that went
wrong. A shim that ends meanwhile, after its container, has not gone wrong.

exit status: 0 all done, 1 some are not upgraded (also of a dry run; -refused-ok:
those that are refused, or at work all the time, do not count), 2 could not
look, or not write down what was done, 3 exchanged, and the new program does not answer, 64 usage

examples:
  shimctl upgrade -all
  shimctl upgrade -yes 3776
  shimctl upgrade -all -yes -binary /opt/shim/containerd-shim
  shimctl upgrade -all -yes -only-wedged -o json`,
		flags: func(set *flag.FlagSet) func(context.Context, []string) int {
			u := &upgrader{program: p}
			set.BoolVar(&u.all, "all", false, "every v1 shim of this host, one after the other")
			set.StringVar(&u.namespace, "n", "", "only this containerd `namespace`")
			set.BoolVar(&u.yes, "yes", false, "act; without it no program is exchanged")
			set.BoolVar(&u.onlyWedged, "only-wedged", false, "those only whose wedge is proven")
			set.StringVar(&u.binary, "binary", defaultBinary(os.Executable), "`path` of the new program, where the shim sees it")
			set.StringVar(&u.sum, "sha256", "", "the new program's `checksum`; another program is refused")
			set.BoolVar(&u.refusedOK, "refused-ok", false, "for roll-outs: shims that are refused, or at work all the time, do not make the exit status 1")
			set.StringVar(&u.format, "o", "text", "`format`: text, or json, one object per line for each shim")
			set.StringVar(&u.stateFile, "state-file", rounds.DefaultStateFile, "`file` that keeps check's samples, for -only-wedged; empty for none")
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
	show := upgradeFormats[u.format]
	if show == nil || u.maxFailures < 1 {
		return u.fail(exitUsage, "upgrade", errors.New("unknown -o, or -max-failures below 1; `shimctl upgrade -h`"))
	}
	if err := takeover.CheckSum(u.sum); err != nil {
		return u.fail(exitUsage, "upgrade", err)
	}
	shims, err := u.choose(ctx, args)
	if err != nil {
		return u.fail(exitCheck, "upgrade", err)
	}
	if u.yes {
		lock, err := repair.Lock(filepath.Join(u.dir, "lock"))
		if err != nil {
			return u.fail(exitCheck, "upgrade", err)
		}
		defer lock.Close()
		if u.tally, err = repair.OpenTally(u.dir); err != nil {
			return u.fail(exitCheck, "upgrade", err)
		}
	}
	status, failures := exitOK, 0
	bar := progress{to: u.errs, total: len(shims)}
	for i := range shims {
		s := &shims[i]
		var o upgraded
		if ctx.Err() != nil {
			o = upgraded{result: resultSkipped, err: ctx.Err()}
		} else if u.yes && failures >= u.maxFailures {
			o = upgraded{result: resultSkipped, err: fmt.Errorf("%d went wrong before it", failures)}
		} else {
			bar.at(i, s)
			o = u.one(ctx, s)
			bar.clear()
		}
		if o.wrong() {
			failures++
		}
		if excused := (o.result == resultRefused || o.result == resultBusy) && u.refusedOK || o.result == resultEnded && u.all; !excused {
			status = max(status, o.status())
		}
		err := u.count(&o)
		if err != nil {
			err = fmt.Errorf("%s pid %d is not counted: %w", s.Name(), s.PID, err)
		}
		if err := errors.Join(show(u.program, s, &o), err); err != nil { // what was done is told, whether or not it is counted
			return max(status, u.fail(exitCheck, "upgrade", err))
		}
	}
	if len(shims) == 0 && u.format == "text" {
		fmt.Fprintln(u.out, "nothing to do")
	}
	return status
}

// choose returns the shims that are to be upgraded.
func (u *upgrader) choose(ctx context.Context, args []string) ([]scan.Shim, error) {
	if u.onlyWedged {
		return u.wedged(ctx, args)
	}
	all, err := scan.Find(u.proc, u.namespace, args)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if s := &all[i]; s.Hidden {
			return nil, fmt.Errorf("%s pid %d: its program cannot be read: %w", s.Name(), s.PID, os.ErrPermission)
		}
	}
	if u.all {
		all = slices.DeleteFunc(all, func(s scan.Shim) bool { return s.Kind != scan.V1 })
	}
	return all, nil
}

// wedged looks at the shims and returns those that are wedged. It notes of which no dump
// proves it.
func (u *upgrader) wedged(ctx context.Context, args []string) ([]scan.Shim, error) {
	c := rounds.Checker{Proc: u.proc, Now: u.now, Stacks: u.taker(), Limit: stateLimit, Confirm: true, State: rounds.Always, Namespace: u.namespace, StateFile: u.stateFile}
	seen, err := c.Sample(ctx, args)
	if err != nil {
		return nil, err
	}
	if seen.Denied() {
		return nil, rounds.ErrDenied
	}
	var shims []scan.Shim
	u.unproven = map[int]bool{}
	for i := range seen.Rows {
		if r := &seen.Rows[i]; r.Result.Verdict == health.Wedged {
			shims = append(shims, r.Shim)
			u.unproven[r.PID] = !r.Result.Confirmed
		}
	}
	return shims, nil
}

// count adds what was tried to the host's tally.
func (u *upgrader) count(o *upgraded) error {
	if u.tally == nil || !o.tried {
		return nil
	}
	result := ""
	switch {
	case o.result == resultDone && u.onlyWedged:
		result = repair.Healed
	case o.result == resultDone:
		result = repair.Upgraded
	case o.result == resultFailed, o.result == resultBusy:
		result = repair.Failed
	case o.result == resultUnanswered:
		result = repair.Unanswered
	default:
		return nil
	}
	return u.tally.Add(result)
}

// one upgrades a shim, or says what that would do or why it is not done.
func (u *upgrader) one(ctx context.Context, s *scan.Shim) upgraded {
	if s.Foreign { // before any file of it is read
		return upgraded{result: resultRefused, err: errors.New(scan.WhyForeign)}
	}
	why := repair.OptedOut(u.proc, s.PID)
	own := s.Build.Ours && s.Kind == scan.V1
	if why == "" && !own {
		why = takeover.Refuse(s)
	}
	if why == "" && u.unproven[s.PID] {
		why = "no dump proves its wedge"
	}
	if why != "" && !takeover.Runs(s, u.binary) {
		return upgraded{result: resultRefused, err: errors.New(why)}
	}
	if err := takeover.CheckBinary(s, u.binary, u.sum); err != nil {
		return u.failed(ctx, s, err)
	}
	if takeover.Runs(s, u.binary) {
		return u.current(ctx, s)
	}
	if own {
		return u.ours(ctx, s)
	}
	if !u.yes {
		return u.look(ctx, s)
	}
	taken, err := u.taker().Take(ctx, s, stacks.Auto, u.patience)
	if err != nil {
		return u.failed(ctx, s, fmt.Errorf("no stack dump: %w", err))
	}
	dir, err := u.saveEvidence(u.dir, s, evidence.Collect(u.proc, s, nil, taken, ""))
	if err != nil {
		return u.failed(ctx, s, fmt.Errorf("the evidence cannot be saved: %w", err))
	}
	o, err := u.tracer().Swap(ctx, s, u.binary, u.sum, u.onlyWedged, u.patience)
	switch {
	case err == nil:
		return upgraded{result: resultDone, tried: true, outcome: o, evidence: dir}
	case takeover.Others(err):
		_ = os.RemoveAll(dir) // as the evidence
		return u.failed(ctx, s, err)
	case errors.Is(err, takeover.ErrNotAnswering) || errors.Is(err, takeover.ErrTracer) || takeover.Runs(s, u.binary):
		return upgraded{result: resultUnanswered, tried: true, err: err, evidence: dir}
	}
	r := u.failed(ctx, s, err)
	r.tried = true
	if u.onlyWedged {
		r.evidence = dir
	} else if err := os.RemoveAll(dir); err != nil { // of a healthy shim, to which nothing was done
		r.evidence = dir
	}
	return r
}

// current is for a shim that runs the new program already, maybe since an exchange
// of an earlier run after which it did not answer.
func (u *upgrader) current(ctx context.Context, s *scan.Shim) upgraded {
	a := probe.Ask(ctx, u.proc, s, probe.Question{Limit: aliveLimit, State: true})
	if a.Serves() || a.State.OK && s.Init.PID == 0 { // its container is being made
		return upgraded{result: resultCurrent}
	}
	if !scan.Alive(u.proc, s.PID, s.StartTicks) {
		return upgraded{result: resultEnded}
	}
	if interrupted(ctx) {
		return upgraded{result: resultSkipped, err: ctx.Err()}
	}
	return upgraded{result: resultUnanswered, err: fmt.Errorf("it runs the new program, which does not answer: ShimInfo: %s, State: %s%s", a.ShimInfo.Err, a.State.Err, a.State.Status)}
}

// failed is for a shim that runs its old program, or another one's, or has ended by itself.
func (u *upgrader) failed(ctx context.Context, s *scan.Shim, err error) upgraded {
	switch {
	case !scan.Alive(u.proc, s.PID, s.StartTicks):
		return upgraded{result: resultEnded}
	case errors.Is(err, takeover.ErrExchanged) && takeover.Runs(s, u.binary):
		return u.current(ctx, s)
	case interrupted(ctx):
		return upgraded{result: resultSkipped, err: ctx.Err()}
	case errors.Is(err, takeover.ErrBusy), takeover.Others(err), probe.Busy(err):
		return upgraded{result: resultBusy, err: err}
	case errors.Is(err, takeover.ErrRefused):
		return upgraded{result: resultRefused, err: err}
	}
	return upgraded{result: resultFailed, err: err}
}

// interrupted reports whether a signal has ended ctx: what it has cut short has no result.
func interrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// look is the dry run.
func (u *upgrader) look(ctx context.Context, s *scan.Shim) upgraded {
	o, err := u.tracer().Look(ctx, s, u.binary, u.onlyWedged, u.patience)
	if err != nil {
		return u.failed(ctx, s, err)
	}
	return upgraded{result: resultPossible, outcome: o, todo: u.command(s)}
}

// command is the command line that does what the dry run describes.
func (u *upgrader) command(s *scan.Shim) string {
	flags := ""
	if u.onlyWedged {
		flags = "-only-wedged "
	}
	if u.sum != "" {
		flags += "-sha256 " + u.sum + " "
	}
	return fmt.Sprintf("shimctl upgrade -yes %s-binary %s %d", flags, u.binary, s.PID)
}

// saveEvidence writes the evidence below dir and returns where it is.
func (p program) saveEvidence(dir string, s *scan.Shim, files []evidence.File) (string, error) {
	return evidence.SaveNew(filepath.Join(dir, "evidence"), fmt.Sprintf("%s.%s.%d", s.Namespace, s.ID, s.PID), p.now(), files)
}
