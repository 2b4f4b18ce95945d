// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/repair"
	"containerd-shim.v1/cmd/shimctl/internal/rounds"
	"containerd-shim.v1/internal/atomicfile"
)

// textfile is the name that the exported file has in node_exporter's directory.
const textfile = "containerd_shim.prom"

func (p program) exportVerb() verb {
	return verb{
		name: "export", args: "", short: "write metrics for node_exporter's textfile collector",
		long: `Checks the shims and writes ` + textfile + ` into the directory, by a rename, so that
node_exporter never reads half of it. Only wedged shims get a series of their
own: containers come and go. With -interval it goes on, also when one fails, but
not if that is the first.

exit status: 0 written, 1 the file could not be written, 2 could not check,
64 usage

examples:
  shimctl export -textfile-directory /var/lib/prometheus/node-exporter
  shimctl export -textfile-directory /textfile -interval 60s     # in a DaemonSet`,
		flags: func(set *flag.FlagSet) func(context.Context, []string) int {
			c := p.checker()
			c.define(set)
			dir := set.String("textfile-directory", "", "node_exporter's `directory`")
			every := set.Duration("interval", 0, "go on, and write again after this time")
			ledger := set.String("ledger", "/var/lib/shimctl/repairs.json", "repair's ledger `file`")
			return func(ctx context.Context, args []string) int {
				if *dir == "" || len(args) > 0 {
					return p.fail(exitUsage, "export", errors.New("give -textfile-directory, and no shims"))
				}
				for first := true; ; first = false {
					status := c.export(ctx, filepath.Join(*dir, textfile), *ledger)
					// A right or a directory that is missing at first will be missing later.
					if *every <= 0 || first && status != exitOK {
						return status
					}
					if !rounds.Pause(ctx, *every) {
						return exitOK
					}
				}
			}
		},
	}
}

func (c *checkFlags) export(ctx context.Context, name, ledger string) int {
	r, err := c.Sample(ctx, nil)
	if err != nil {
		return c.fail(exitCheck, "export", err)
	}
	if r.Denied() { // the file of a run that had the rights gets stale, for which there is an alert
		return c.fail(exitCheck, "export", rounds.ErrDenied)
	}
	var b bytes.Buffer
	if err := promFormat(&b, r); err != nil {
		return c.fail(exitSome, "export", err)
	}
	if err := repairMetrics(&b, ledger, c.now()); err != nil {
		return c.fail(exitCheck, "export", err)
	}
	if err := atomicfile.Write(name, b.Bytes(), 0o644); err != nil { // node_exporter is not root
		return c.fail(exitSome, "export", err)
	}
	return exitOK
}

func repairMetrics(b *bytes.Buffer, name string, now time.Time) error {
	l, err := repair.OpenLedger(name)
	if err != nil {
		return err
	}
	n := l.Count(now)
	fmt.Fprintf(b, "# HELP containerd_shim_repairs_total Wedged shims that repair has healed or killed, by result.\n# TYPE containerd_shim_repairs_total counter\n")
	for _, result := range []string{repair.Repaired, repair.Failed} {
		fmt.Fprintf(b, "containerd_shim_repairs_total{result=%q} %d\n", result, n[result])
	}
	tally, err := repair.OpenTally(filepath.Dir(name))
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "# HELP shimctl_in_place_total Exchanges of a running shim's program, by result.\n# TYPE shimctl_in_place_total counter\n")
	for _, result := range repair.InPlace {
		fmt.Fprintf(b, "shimctl_in_place_total{result=%q} %d\n", result, tally.Counts[result])
	}
	return nil
}
