// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/launch"
)

// errNoDump means that a bench went well, but that no stack dump came out.
var errNoDump = errors.New("no stack dump came out")

const benchHeader = "| shim | N | failed execs | lost exits | latest exit | longest State | wall | hung | dump |\n|---|---|---|---|---|---|---|---|---|"

// bench floods one shim, or lets a storm of exits loose on it, or many exits beside
// a kill in a v2 shim, and prints one row of figures.
func bench(args []string) error {
	var m catalogue.Bench
	set := flag.NewFlagSet("shimverify bench flood|storm|killall", flag.ContinueOnError)
	shim := set.String("shim", "containerd-shim", "the shim to measure")
	runtime := set.String("runtime", "runc", "the OCI runtime")
	name := set.String("name", "", "name in the row (default: the path of the shim)")
	header := set.Bool("header", false, "print the table's header and end")
	set.IntVar(&m.N, "n", 100, "execs of a flood or beside a kill, orphans of a storm (at most 4000)")
	set.DurationVar(&m.Limit, "limit", time.Minute, "limit for all execs together")
	set.DurationVar(&m.Settle, "settle", 15*time.Second, "how long to wait afterwards for the next late exit and for the dump")
	set.StringVar(&m.Dumps, "dumps", launch.PatchedStacks, "where a patched shim of upstream's leaves its dumps")
	kind := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		kind, args = args[0], args[1:]
	}
	if err := set.Parse(args); err != nil {
		return err
	}
	measure := map[string]func(*harness.Case) catalogue.Figures{"flood": m.Flood, "storm": m.Storm, "killall": m.KillAll}[kind]
	switch {
	case *header:
		fmt.Println(benchHeader)
		return nil
	case measure == nil || set.NArg() > 0:
		return fmt.Errorf("usage: shimverify bench flood|storm|killall [flags] (%q)", append([]string{kind}, set.Args()...))
	case m.N < 1 || m.N > 4000:
		return fmt.Errorf("-n %d: want 1 to 4000", m.N)
	}
	cfg, err := setup(*shim, *runtime)
	if err != nil {
		return err
	}
	if err := cfg.ProbeShim(); err != nil {
		return errors.Join(err, cfg.Close())
	}
	var f catalogue.Figures
	r := harness.Run(cfg, "bench", 2*m.Limit+3*m.Settle+5*time.Minute, func(c *harness.Case) { f = measure(c) })
	if err := cfg.Close(); err != nil {
		return err
	}
	if r.Verdict != harness.Pass {
		return errors.New(strings.Join(r.Messages, "; "))
	}
	fmt.Println(benchRow(cmp.Or(*name, *shim), m.N, f))
	for _, e := range f.Errors {
		fmt.Fprintln(os.Stderr, "shimverify:", e)
	}
	if f.Stacks != "" {
		explain(os.Stderr, f.Stacks)
	}
	return benchVerdict(f)
}

// benchRow is a row of the table.
func benchRow(name string, n int, f catalogue.Figures) string {
	more := ""
	if f.Pending {
		more = "> "
	}
	yes := map[bool]string{true: "yes", false: "no"}
	hung := yes[f.Hung]
	if f.Gone {
		hung = "gone"
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %.1f s | %s%.1f s | %.1f s | %s | %s |", name, n, f.Failed, f.Lost,
		f.Late.Seconds(), more, f.State.Seconds(), f.Wall.Seconds(), hung, yes[f.Dump])
}

func benchVerdict(f catalogue.Figures) error {
	switch {
	case f.Failed > 0 || f.Lost > 0 || f.Hung || f.Gone:
		return errFailed
	case !f.Dump:
		return errNoDump
	}
	return nil
}
