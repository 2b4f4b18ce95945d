// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/faults"
	"containerd-shim.v1/integration/inject"
)

// injectVerb makes each system call of a shim fail once, and prints what went wrong
// then, and a table.
func injectVerb(args []string) error {
	set := flag.NewFlagSet("inject", flag.ContinueOnError)
	shim := set.String("shim", "containerd-shim", "the shim to test, looked for in PATH where it has no slash")
	only := set.String("only", "", "patterns of kinds of calls, separated by commas")
	most := set.Int("most", 0, "at most so many calls of a kind, spread evenly (default: all)")
	side := set.Int("j", sideBySide, "how many lives side by side")
	var mode inject.Mode
	set.BoolVar(&mode.Twice, "twice", false, "each call fails, and the next of its kind")
	set.BoolVar(&mode.Kill, "kill", false, "kill the shim at each call, and look at what its death leaves")
	set.BoolVar(&mode.Moment, "moment", false, "each call begins a moment without memory, descriptors or room")
	markdown := set.String("markdown", "", "write the table as Markdown")
	verbose := set.Bool("v", false, "print every life and its log")
	if err := set.Parse(args); err != nil {
		return err
	}
	switch {
	case set.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", set.Arg(0))
	case *side < 1 || *side > mostSide:
		return fmt.Errorf("-j %d: want 1 to %d", *side, mostSide)
	case mode.Twice && mode.Kill || mode.Twice && mode.Moment || mode.Kill && mode.Moment:
		return errors.New("-twice, -kill and -moment exclude each other")
	case *most < 0:
		return fmt.Errorf("-most %d: want 0 or more", *most)
	}
	if *markdown != "" {
		if err := writable(*markdown); err != nil {
			return err
		}
	}
	cfg, err := setup(*shim, "runc")
	if err != nil {
		return err
	}
	outcomes, err := injectAll(cfg, mode, *only, *most, *side, *verbose)
	if err = errors.Join(err, cfg.Close()); err != nil {
		return err
	}
	table := injectTable(inject.Table(outcomes))
	fmt.Print("\n" + table)
	if *markdown != "" {
		if err := os.WriteFile(*markdown, []byte(table), 0o644); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(outcomes, func(o inject.Outcome) bool { return o.Verdict != harness.Pass }) {
		return errFailed
	}
	if kinds := inject.Unreached(outcomes); len(kinds) > 0 {
		return fmt.Errorf("no life has come to a call of %q", kinds)
	}
	return nil
}

func injectAll(cfg harness.Config, mode inject.Mode, only string, most, side int, verbose bool) ([]inject.Outcome, error) {
	if cfg.V2 {
		return nil, fmt.Errorf("%s: inject is for v1 shims", cfg.Shim)
	}
	if err := cfg.ProbeShim(); err != nil {
		return nil, err
	}
	usual, err := mode.Count(cfg)
	if err != nil {
		return nil, err
	}
	plan := slices.DeleteFunc(mode.Plan(usual.Calls, most), func(f faults.Fault) bool {
		return only != "" && !slices.ContainsFunc(strings.Split(only, ","), func(p string) bool {
			ok, _ := path.Match(p, f.Kind)
			return ok
		})
	})
	if len(plan) == 0 {
		return nil, fmt.Errorf("no kind of call matches %q", only)
	}
	fmt.Printf("%d lives\n", len(plan))
	if len(usual.Leaks) > 0 {
		fmt.Printf("it leaks descriptors of %q also if nothing fails; that is not counted\n", usual.Leaks)
	}
	var outcomes []inject.Outcome
	usual.Run(cfg, plan, side, func(o inject.Outcome) {
		outcomes = append(outcomes, o)
		if o.Verdict == harness.Pass && !verbose {
			return
		}
		fmt.Printf("%s  %v  %s\n", o.Verdict, o.Fault, strings.Join(o.Hits, ", "))
		for _, m := range o.Messages {
			fmt.Println("      " + m)
		}
		if verbose {
			for _, l := range o.Log {
				fmt.Println("      | " + l)
			}
		}
	})
	if cfg.Interrupted() {
		return outcomes, errors.New("interrupted")
	}
	return outcomes, nil
}

// injectTable is the table in Markdown.
func injectTable(rows []inject.Row) string {
	var b strings.Builder
	b.WriteString("| call | error | lives | reached | failed | with |\n|---|---|---|---|---|---|\n")
	lives, reached, failed := 0, 0, 0
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s |\n", r.Kind, cmp.Or(unix.ErrnoName(r.Errno), "SIGKILL"), r.Lives, r.Reached, r.Failed, firstOf(r.Messages))
		lives, reached, failed = lives+r.Lives, reached+r.Reached, failed+r.Failed
	}
	fmt.Fprintf(&b, "| all | | %d | %d | %d | |\n", lives, reached, failed)
	return b.String()
}

// firstOf is a table cell of the first message.
func firstOf(messages []string) string {
	if len(messages) == 0 {
		return ""
	}
	s, _, _ := strings.Cut(messages[0], "\n")
	return strings.ReplaceAll(s, "|", `\|`)
}
