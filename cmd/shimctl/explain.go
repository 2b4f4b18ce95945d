// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/internal/stackdump"
)

// maxDumpFile bounds what explain reads: a dump of 20,000 goroutines is 14 MB.
const maxDumpFile = 256 << 20

func (p program) explainVerb() verb {
	return verb{
		name: "explain", args: "FILE|-|ID|PID", short: "read a goroutine dump and name the deadlock",
		long: `Says who waits for whom in a dump, since when, which known bug that is, and what
to do. It reads this project's dump files, upstream's record between BEGIN and
END (raw or quoted by logrus), strace -e write output, what SIGQUIT prints, and
bare stacks; from a pid or container id it takes the stacks first, and lists the
runtimes at work below the shim, each with its container.

An argument that is a file is read as one; write ./123 for a file named like a
pid.

exit status: 0 no deadlock or stall, 1 at least one, 2 none in a dump that is
not complete, no dump in it, or it cannot be read, 64 usage

examples:
  shimctl explain 3776
  shimctl explain /run/containerd-shim/stacks/moby.0b6e455ae5fe.3776.*.stacks
  journalctl -u docker | shimctl explain -`,
		flags: func(set *flag.FlagSet) func(context.Context, []string) int {
			format := set.String("o", "text", "`format`: text or json")
			limit := set.Duration("timeout", 10*time.Second, "limit for each way of taking the stacks of a pid")
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 || (*format != "text" && *format != "json") {
					return p.fail(exitUsage, "explain", errors.New("give one file, -, pid or container id, and -o text or json"))
				}
				d, s, err := p.dumpFrom(ctx, args[0], *limit)
				if err != nil {
					return p.fail(exitCheck, "explain", err)
				}
				return p.explain(d, s, *format)
			}
		},
	}
}

// explanation is what explain prints as JSON. Runtimes are those below a running shim:
// for a v2 shim they tell which container of its group hangs.
type explanation struct {
	*stackdump.Report
	Runtimes []scan.Runtime `json:",omitempty"`
}

// explain prints what a dump says, and what runs below the shim that it was taken of, if
// it was; else s is nil.
func (p program) explain(d *stackdump.Dump, s *scan.Shim, format string) int {
	r := explanation{Report: stackdump.Explain(d)}
	if s != nil {
		r.Runtimes = s.Runcs
	}
	var err error
	if format == "json" {
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		_, err = r.WriteTo(p.out)
		for _, below := range r.Runtimes {
			if err == nil {
				_, err = fmt.Fprintln(p.out, "below the shim:", below)
			}
		}
	}
	if err != nil {
		return p.fail(exitCheck, "explain", err)
	}
	if r.Worst() == stackdump.Deadlock || r.Worst() == stackdump.Stall {
		return exitSome
	}
	if !d.Complete { // what is missing may be the deadlock
		return p.fail(exitCheck, "explain", fmt.Errorf("the dump is not complete: %s", d.Why))
	}
	return exitOK
}

// dumpFrom reads standard input, a file, or a running shim, which it returns, too.
func (p program) dumpFrom(ctx context.Context, arg string, limit time.Duration) (*stackdump.Dump, *scan.Shim, error) {
	if arg == "-" {
		d, err := parse(p.in, "standard input")
		return d, nil, err
	}
	f, err := os.Open(arg)
	if err == nil {
		defer f.Close()
		d, err := parse(f, arg)
		return d, nil, err
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	all, err := scan.Host(p.proc)
	if err != nil {
		return nil, nil, err
	}
	some, err := scan.Choose(all, []string{arg})
	if err != nil {
		return nil, nil, fmt.Errorf("no file %s, and %w", arg, err)
	}
	r, err := p.taker().Take(ctx, &some[0], stacks.Auto, limit)
	if err != nil {
		return nil, nil, err
	}
	now, _ := scan.One(p.proc, some[0].PID, some[0].StartTicks) // what runs below it now
	return r.Dump, &now, nil
}

func parse(r io.Reader, name string) (*stackdump.Dump, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDumpFile))
	if err != nil {
		return nil, err
	}
	d, err := stackdump.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}
