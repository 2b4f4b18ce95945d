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
	"containerd-shim.v1/stackdump"
)

// maxDumpFile bounds what explain reads: a dump of 20,000 goroutines is 14 MB.
const maxDumpFile = 256 << 20

func (p program) explainVerb() verb {
	return verb{
		name: "explain", args: "FILE|-|ID|PID", short: "read a goroutine dump and name the deadlock",
		long: `Says who waits for whom in a dump, since when, which known bug that is, and what
to do. It reads this project's dump files, upstream's record between BEGIN and
END (raw or quoted by logrus), strace -e write output, what SIGQUIT prints, and
bare stacks; from a pid or container id it takes the stacks first.

An argument that is a file is read as one; write ./123 for a file named like a
pid.

exit status: 0 no deadlock or stall, 1 at least one, 2 no dump in it or it
cannot be read, 64 usage

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
				d, err := p.dumpFrom(ctx, args[0], *limit)
				if err != nil {
					return p.fail(exitCheck, "explain", err)
				}
				return p.explain(d, *format)
			}
		},
	}
}

func (p program) explain(d *stackdump.Dump, format string) int {
	r := stackdump.Explain(d)
	var err error
	if format == "json" {
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		_, err = r.WriteTo(p.out)
	}
	if err != nil {
		return p.fail(exitCheck, "explain", err)
	}
	if r.Worst() == stackdump.Deadlock || r.Worst() == stackdump.Stall {
		return exitSome
	}
	return exitOK
}

// dumpFrom reads standard input, a file, or a running shim.
func (p program) dumpFrom(ctx context.Context, arg string, limit time.Duration) (*stackdump.Dump, error) {
	if arg == "-" {
		return parse(p.in, "standard input")
	}
	f, err := os.Open(arg)
	if err == nil {
		defer f.Close()
		return parse(f, arg)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	all, err := scan.Host(p.proc)
	if err != nil {
		return nil, err
	}
	some, err := scan.Choose(all, []string{arg})
	if err != nil {
		return nil, fmt.Errorf("no file %s, and %w", arg, err)
	}
	r, err := p.taker().Take(ctx, &some[0], stacks.Auto, limit)
	if err != nil {
		return nil, err
	}
	return r.Dump, nil
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
