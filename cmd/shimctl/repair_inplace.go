// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/repair"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// patience is how long to wait for a wedged shim that is busy: what still works in it
// ends soon, or never.
const patience = 10 * time.Second

// errNoBinary is the reason if -binary is empty. errBinary is wrapped by the reason if it
// names nothing that can take over, which is no reason to end a shim.
var (
	errNoBinary = errors.New("no -binary is given")
	errBinary   = errors.New("-binary")
)

// otherBinary says what to do about an errBinary.
const otherBinary = "  install the package containerd-shim, or name its program by -binary; -kill -binary '' ends the shim instead\n"

// refused returns why the shim can never be healed in place, or nil.
func (r *repairer) refused(c *repair.Case) error {
	if r.binary == "" {
		return errNoBinary
	}
	if why := takeover.Refuse(&c.Shim); why != "" {
		return errors.New(why)
	}
	if err := takeover.CheckBinary(&c.Shim, r.binary, r.sum); err != nil {
		return fmt.Errorf("%w: %w", errBinary, err)
	}
	return nil
}

// inPlace exchanges the program of a wedged shim and reports whether that was done, or may
// have been. If so, an error says that the new program does not answer, or which one runs
// is not known, or it wraps errUnwritten.
func (r *repairer) inPlace(ctx context.Context, c *repair.Case, ledger *repair.Ledger) (done bool, err error) {
	s := &c.Shim
	entry := repair.Entry{Time: r.now(), Shim: s.Name(), PID: s.PID, Reason: c.Result.Reason, Result: repair.Running}
	// The ledger comes first: an exchange that is not in it would not count.
	if err := ledger.Add(entry); err != nil {
		return false, err
	}
	o, err := r.tracer().Swap(ctx, s, r.binary, r.sum, true, patience)
	if takeover.Others(err) {
		return false, errors.Join(orEnded(r.proc, s, err), ledger.Drop())
	}
	if acted := err == nil || o != nil && o.Swapped || errors.Is(err, takeover.ErrTracer); !acted {
		return false, errors.Join(orEnded(r.proc, s, err), ledger.Drop(), r.tally.Add(repair.Failed))
	}
	r.acted++
	result, counted := repair.Repaired, repair.Healed
	if err != nil { // also if the shim has ended since: that may be the new program's doing
		result, counted = repair.Failed, repair.Unanswered
	}
	unwritten := errors.Join(ledger.Finish(result), r.tally.Add(counted))
	if err != nil {
		return true, errors.Join(err, unwritten)
	}
	fmt.Fprintf(r.out, "%s pid %d: healed in place (%s): %s; it stood still for %s and answered %s later; took %s\n", s.Name(), s.PID,
		c.Result.Reason, takenOver(o), o.Stopped.Round(100*time.Microsecond), o.Answered.Round(time.Millisecond), r.now().Sub(entry.Time).Round(10*time.Millisecond))
	return true, booked(unwritten)
}

// errUnwritten is wrapped by the error of a repair that was done, and could not be written down.
var errUnwritten = errors.New("healed, and not all of that was written down: the entry in the ledger may count as failed")

// booked is why a repair that was done is not written down, or nil.
func booked(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errUnwritten, err)
}

// orEnded is err, or that the shim has ended, whatever that has made impossible.
func orEnded(proc string, s *scan.Shim, err error) error {
	if scan.Alive(proc, s.PID, s.StartTicks) {
		return err
	}
	return errors.New("the shim has ended meanwhile")
}

// dry says what a repair would do.
func (r *repairer) dry(ctx context.Context, c *repair.Case, name, notNow string) {
	err, passing := r.refused(c), false
	var o *takeover.Outcome
	if err == nil {
		o, err = r.tracer().Look(ctx, &c.Shim, r.binary, true, patience)
		passing = err != nil && !takeover.Hopeless(err)
	}
	var flags string
	switch {
	case err == nil:
		fmt.Fprintf(r.out, "%s: %s: would save evidence below %s and exchange its program for %s, with %s.\n", name, c.Result.Reason, r.dir, r.binary, takenOver(o))
	case errors.Is(err, errBinary):
		fmt.Fprintf(r.out, "%s: %s: cannot be healed in place: %v%s\n%s", name, c.Result.Reason, err, hint(err), otherBinary)
		return
	case passing:
		fmt.Fprintf(r.out, "%s: %s: could not be healed in place this time: %v%s\n", name, c.Result.Reason, err, hint(err))
		return
	default:
		flags = "-kill "
		fmt.Fprintf(r.out, "%s: %s: cannot be healed in place: %v%s\n  with -kill: would save evidence below %s and send SIGKILL.\n  %s\n",
			name, c.Result.Reason, err, hint(err), r.dir, c.Lost())
	}
	if notNow != "" {
		fmt.Fprintf(r.out, "  but not now: %s\n", notNow)
	}
	if r.sum != "" {
		flags += "-sha256 " + r.sum + " "
	}
	if r.Unproven {
		flags += "-unproven "
	}
	fmt.Fprintf(r.out, "  to do it: shimctl repair -yes %s-binary '%s' -dir %s %d\n", flags, r.binary, r.dir, c.Shim.PID)
}
