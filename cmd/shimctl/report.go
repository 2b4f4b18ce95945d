// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/evidence"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
)

func (p program) reportVerb() verb {
	return verb{
		name: "report", args: "ID|PID > FILE.tgz", short: "collect everything for a bug report",
		long: `Writes one tar.gz to standard output with what is worth knowing of a shim. It
holds no environment, no config.json, no output of the container and no command
line but the shim's own; -list says what each file is.

exit status: 0 complete, 1 without stacks, 2 no such shim, 64 usage

examples:
  shimctl report 3776 > shim.tgz
  shimctl report -list`,
		flags: func(set *flag.FlagSet) func(context.Context, []string) int {
			list := set.Bool("list", false, "say what the archive holds")
			limit := set.Duration("timeout", 2*time.Second, "limit for each call")
			return func(ctx context.Context, args []string) int {
				if *list {
					for _, f := range evidence.Holds {
						fmt.Fprintf(p.out, "%-13s %s\n", f.Name, f.What)
					}
					return exitOK
				}
				if len(args) != 1 {
					return p.fail(exitUsage, "report", errors.New("give one shim"))
				}
				if f, ok := p.out.W.(*os.File); ok && terminal(f) {
					return p.fail(exitUsage, "report", errors.New("this is a tar.gz: write it into a file"))
				}
				return p.report(ctx, args, *limit)
			}
		},
	}
}

func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (p program) report(ctx context.Context, args []string, limit time.Duration) int {
	all, err := scan.Find(p.proc, "", args)
	if err != nil {
		return p.fail(exitCheck, "report", err)
	}
	s := &all[0]
	version := "unknown"
	if d, err := p.connect(s); err == nil {
		ask, cancel := context.WithTimeout(ctx, limit)
		if v, err := d.Version(ask); err == nil {
			version = v
		} else {
			version = err.Error()
		}
		cancel()
		_ = d.Close()
	}
	status := exitOK
	taken, err := p.taker().Take(ctx, s, stacks.Auto, 5*limit)
	if err != nil {
		status = p.fail(exitSome, "report", fmt.Errorf("no stacks: %w", err))
	}
	dir := fmt.Sprintf("shim-%s-%d-%s", shorten(s.ID), s.PID, p.now().UTC().Format("20060102T150405Z"))
	if err := evidence.Archive(p.out.W, dir, evidence.Collect(p.proc, s, nil, taken, version)); err != nil {
		return p.fail(exitSome, "report", err)
	}
	return status
}
