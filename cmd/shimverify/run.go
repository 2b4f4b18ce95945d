// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"containerd-shim.v1/integration/catalogue"
)

// repeated is a flag that may be given several times.
type repeated []string

func (r *repeated) String() string     { return fmt.Sprint(*r) }
func (r *repeated) Set(s string) error { *r = append(*r, s); return nil }

// Checks mostly wait, for runc and for shims that hang: two CPUs do several at once.
const (
	sideBySide = 4
	mostSide   = 64
	mostRuns   = 1000
)

// runFlags are the flags of run and compare.
type runFlags struct {
	runtime, only, release        string
	jsonFile, junitFile, htmlFile string
	markdownFile                  string
	count, side                   int
	verbose, expect, better, v2   bool
	shims                         []string
	found                         bool // the first of shims was found in PATH, not named by the user
}

func parseRun(args []string) (runFlags, error) {
	var f runFlags
	var others repeated
	set := flag.NewFlagSet("shimverify run|compare", flag.ContinueOnError)
	shim := set.String("shim", "containerd-shim", "the shim to test, looked for in PATH where it has no slash")
	set.Var(&others, "vs", "another shim to test beside it")
	set.StringVar(&f.runtime, "runtime", "runc", "the OCI runtime")
	set.StringVar(&f.only, "only", "", "patterns of ids and names, separated by commas")
	set.IntVar(&f.count, "n", 1, "how many times")
	set.IntVar(&f.side, "j", sideBySide, "how many checks side by side; those that need it run alone in any case")
	set.BoolVar(&f.verbose, "v", false, "print the log of each check")
	set.BoolVar(&f.expect, "expect", false, "judge by what the shim's release is known for: a difference is a failure")
	set.BoolVar(&f.better, "better", false, "the same for a shim that repairs that release: it may fail only what the release is known to fail")
	set.BoolVar(&f.v2, "v2", false, "the shims are v2 shims, also where their names are not of the form containerd-shim-NAME-v2")
	set.StringVar(&f.release, "release", "", "the shim's release, where its build info does not tell")
	set.StringVar(&f.jsonFile, "json", "", "write the results as JSON")
	set.StringVar(&f.junitFile, "junit", "", "write the results as JUnit XML")
	set.StringVar(&f.htmlFile, "html", "", "write the results as one HTML page")
	set.StringVar(&f.markdownFile, "markdown", "", "write the verdicts as a Markdown table")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	f.shims = append([]string{*shim}, others...)
	f.expect = f.expect || f.better
	given := false
	set.Visit(func(fl *flag.Flag) { given = given || fl.Name == "shim" })
	f.found = !given
	switch {
	case set.NArg() > 0:
		return f, fmt.Errorf("unexpected argument %q", set.Arg(0))
	case f.count < 1 || f.count > mostRuns:
		return f, fmt.Errorf("-n %d: want 1 to %d", f.count, mostRuns)
	case f.side < 1 || f.side > mostSide:
		return f, fmt.Errorf("-j %d: want 1 to %d", f.side, mostSide)
	}
	return f, nil
}

// runVerb is both run and compare: the latter has more than one shim.
func runVerb(args []string) error {
	f, err := parseRun(args)
	if err != nil {
		return err
	}
	checks := catalogue.Matching(f.only)
	if len(checks) == 0 {
		return fmt.Errorf("no check matches %q (shimverify list)", f.only)
	}
	for _, r := range reports(f) {
		if err := writable(r.path); err != nil {
			return err
		}
	}
	cfg, err := setup(f.shims[0], f.runtime)
	if err != nil {
		return err
	}
	if f.found {
		fmt.Fprintln(os.Stderr, "shimverify: no --shim is given: testing", cfg.Shim)
	}
	jobs, err := plan(cfg, f, checks)
	if err != nil {
		return errors.Join(err, cfg.Close())
	}
	by := ruleOf(f)
	live := newTicker(len(jobs))
	out := work(jobs, f.side, func(j job) { live.begin(j.check) }, func(j job, o outcome) {
		live.end(j.check)
		report(os.Stdout, o, f.verbose)
		live.show()
	})
	if f.expect && !cfg.Interrupted() {
		again(jobs, out, by, func(j job) outcome {
			live.begin(j.check)
			o := j.run()
			live.end(j.check)
			report(os.Stdout, o, f.verbose)
			return o
		})
	}
	live.clear()
	err = errors.Join(cfg.Close(), writeReports(f, out))
	begun := len(slices.DeleteFunc(slices.Clone(out), func(o outcome) bool { return o.notBegun }))
	if len(f.shims) > 1 {
		matrix(os.Stdout, out)
	}
	summary(os.Stdout, out)
	switch {
	case err != nil:
		return err
	case cfg.Interrupted():
		return fmt.Errorf("interrupted after %d of %d", begun, len(jobs))
	}
	return judge(out, by)
}

// again repeats, one at a time, what is a failure of a release of upstream's, and counts
// the outcome instead of the first, which it keeps: its bugs are races, and checks side by
// side may slow a host down until one is not met. This project's shim is judged by the
// first run.
func again(jobs []job, out []outcome, by rule, run func(job) outcome) {
	for i, j := range jobs {
		if by.of(out[i]) == failure && j.release != catalogue.Ours {
			j.name += "-a"
			first := out[i].Result
			out[i] = run(j)
			out[i].First = &first
		}
	}
}

// reportFile is a report that was asked for.
type reportFile struct {
	path  string
	write func(string, []outcome) error
}

func reports(f runFlags) []reportFile {
	junit := func(path string, out []outcome) error { return writeJUnit(path, out, ruleOf(f)) }
	all := []reportFile{{f.jsonFile, writeJSON}, {f.junitFile, junit}, {f.htmlFile, writeHTML}, {f.markdownFile, writeMarkdown}}
	return slices.DeleteFunc(all, func(r reportFile) bool { return r.path == "" })
}

// writable returns an error if the file cannot be written, which is better known before
// a run of minutes. It empties the file: a run that ends early must not leave the report
// of the one before, which may be all green.
func writable(path string) error {
	_, before := os.Stat(path)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	err = file.Close()
	if errors.Is(before, fs.ErrNotExist) {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func writeReports(f runFlags, out []outcome) error {
	var errs []error
	for _, r := range reports(f) {
		errs = append(errs, r.write(r.path, out))
	}
	return errors.Join(errs...)
}
