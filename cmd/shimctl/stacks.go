// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/internal/atomicfile"
	"containerd-shim.v1/internal/stackdump"
)

func (p program) stacksVerb() verb {
	return verb{
		name: "stacks", args: "ID|PID...", short: "get the goroutine stacks of running shims",
		long: `Prints the full goroutine dump of a shim, whatever its standard streams are.

This project's shims write a file for it. From any other Go shim, v1 or v2, the
dump is taken while it is written (ptrace), else out of its memory (scrape),
else from its log FIFO (fifo). The shim is stopped for the copy alone, a few
milliseconds; Go's own runtime.Stack stops it longer. If shimctl is killed
meanwhile the kernel lets the shim run on.

Refused: what is not a Go program with a handler for SIGUSR1, what is stopped,
and by ptrace what is being traced. A dump costs the shim about twice its size
in memory for a moment.

exit status: 0 all complete, 1 some failed or are incomplete, 2 no such shim or
no right to, 64 usage

examples:
  shimctl stacks 3776 | shimctl explain -
  shimctl stacks -O /var/tmp 0b6e455ae5fe
  shimctl stacks -summary $(shimctl ps -q)
  shimctl stacks -method scrape 3776        # while strace holds it`,
		flags: func(set *flag.FlagSet) func(context.Context, []string) int {
			method := stacks.Auto
			set.TextVar(&method, "method", method, "auto, file, ptrace, scrape or fifo")
			limit := set.Duration("timeout", 10*time.Second, "limit for each way that is tried")
			dir := set.String("O", "-", "write each dump into a new file of this `directory` instead of standard output")
			summary := set.Bool("summary", false, "print one line for each shim, and no stacks")
			return func(ctx context.Context, args []string) int {
				if len(args) == 0 {
					return p.fail(exitUsage, "stacks", errors.New("which shim? Give a pid or a container id"))
				}
				all, err := scan.Find(p.proc, "", args)
				if err != nil {
					return p.fail(exitCheck, "stacks", err)
				}
				status := exitOK
				for i := range all {
					status = max(status, p.stacksOf(ctx, &all[i], method, *limit, *dir, *summary))
				}
				return status
			}
		},
	}
}

func (p program) stacksOf(ctx context.Context, s *scan.Shim, m stacks.Method, limit time.Duration, dir string, summary bool) int {
	r, err := p.taker().Take(ctx, s, m, limit)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return p.fail(exitCheck, "stacks", fmt.Errorf("%s pid %d: %w", s.Name(), s.PID, err))
		}
		return p.fail(exitSome, "stacks", fmt.Errorf("%s pid %d: %w", s.Name(), s.PID, err))
	}
	line := fmt.Sprintf("%s pid %d: %d goroutines, %d bytes by %s, ", s.Name(), s.PID, len(r.Dump.Goroutines), len(r.Text), r.Method)
	status := exitOK
	if r.Dump.Complete {
		line += "complete"
	} else {
		line, status = line+"INCOMPLETE: "+r.Dump.Why, exitSome
	}
	switch {
	case summary:
		if report := stackdump.Explain(r.Dump); len(report.Findings) > 0 {
			f := report.Findings[0]
			line += fmt.Sprintf("; %s %s: %s", f.Grade, f.Reason, f.Title)
		}
		fmt.Fprintln(p.out, line)
		return status
	case dir != "-":
		name, err := p.save(dir, s, r)
		if err != nil {
			return p.fail(exitSome, "stacks", err)
		}
		fmt.Fprintln(p.out, name)
	default:
		if _, err := fmt.Fprintf(p.out, "%s\n", r.Text); err != nil {
			return p.fail(exitSome, "stacks", err)
		}
	}
	fmt.Fprintln(p.errs, "shimctl stacks:", line)
	for _, n := range r.Notes {
		fmt.Fprintln(p.errs, "shimctl stacks: also tried", n)
	}
	return status
}

// save writes a dump into a new file that only its owner can read: the arguments of
// functions are in it, which may give a secret away.
func (p program) save(dir string, s *scan.Shim, r *stacks.Result) (string, error) {
	name := filepath.Join(dir, stackdump.FileName(s.Namespace, s.ID, s.PID, p.now(), 1))
	return name, atomicfile.WriteDurable(name, append(r.Text, '\n'), 0o600)
}
