// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"

	"containerd-shim/integration"
	"containerd-shim/integration/catalogue"
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

// outcome is the result of one check on one shim.
type outcome struct {
	Shim  string
	Check catalogue.Check
	integration.Result
	Known integration.Verdict // what the shim's release is known for; "": nothing
}

// surprising tells whether a release did not do what it is known for.
func (o outcome) surprising() bool { return o.Known != "" && o.Known != o.Verdict }

// runFlags are the flags of run and compare.
type runFlags struct {
	runtime, only, release        string
	jsonFile, junitFile, htmlFile string
	markdownFile                  string
	count, side                   int
	verbose, expect               bool
	shims                         []string
}

func parseRun(args []string) (runFlags, error) {
	var f runFlags
	var others repeated
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	shim := fs.String("shim", "containerd-shim", "the shim to test")
	fs.Var(&others, "vs", "another shim to test beside it")
	fs.StringVar(&f.runtime, "runtime", "runc", "the OCI runtime")
	fs.StringVar(&f.only, "only", "", "patterns of ids and names, separated by commas")
	fs.IntVar(&f.count, "n", 1, "how many times")
	fs.IntVar(&f.side, "j", sideBySide, "how many checks side by side; those that need it run alone in any case")
	fs.BoolVar(&f.verbose, "v", false, "print the log of each check")
	fs.BoolVar(&f.expect, "expect", false, "judge by what the shim's release is known for: a difference is a failure")
	fs.StringVar(&f.release, "release", "", "the shim's release, where its build info does not tell")
	fs.StringVar(&f.jsonFile, "json", "", "write the results as JSON")
	fs.StringVar(&f.junitFile, "junit", "", "write the results as JUnit XML")
	fs.StringVar(&f.htmlFile, "html", "", "write the results as one HTML page")
	fs.StringVar(&f.markdownFile, "markdown", "", "write the verdicts as a Markdown table")
	if err := fs.Parse(args); err != nil {
		return f, err
	}
	f.shims = append([]string{*shim}, others...)
	switch {
	case fs.NArg() > 0:
		return f, fmt.Errorf("what is %q?", fs.Arg(0))
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
	cfg, err := setup(f.shims[0], f.runtime)
	if err != nil {
		return err
	}
	jobs, err := plan(cfg, f, checks)
	if err != nil {
		return errors.Join(err, cfg.Close())
	}
	live := newTicker(len(jobs))
	out := work(jobs, f.side, func(j job) { live.begin(j.check) }, func(j job, o outcome) {
		live.end(j.check)
		report(os.Stdout, o, f.verbose)
		live.show()
	})
	live.clear()
	err = errors.Join(cfg.Close(), writeReports(f, out))
	if len(f.shims) > 1 {
		matrix(os.Stdout, out)
	}
	summary(os.Stdout, out)
	switch {
	case err != nil:
		return err
	case cfg.Interrupted():
		return fmt.Errorf("interrupted after %d of %d", len(out), len(jobs))
	}
	return judge(out, f.expect)
}

func writeReports(f runFlags, out []outcome) error {
	var errs []error
	for _, r := range []struct {
		path  string
		write func(string, []outcome) error
	}{{f.jsonFile, writeJSON}, {f.junitFile, writeJUnit}, {f.htmlFile, writeHTML}, {f.markdownFile, writeMarkdown}} {
		if r.path != "" {
			errs = append(errs, r.write(r.path, out))
		}
	}
	return errors.Join(errs...)
}

// judge is what the exit status says. By default a check that fails is a
// failure; with expect, one that does not do what the release is known for.
func judge(out []outcome, expect bool) error {
	var broken, failed int
	for _, o := range out {
		switch {
		case o.Verdict == integration.Broken:
			broken++
		case expect && o.surprising(), !expect && o.Verdict == integration.Fail:
			failed++
		}
	}
	switch {
	case failed > 0:
		return errFailed
	case broken > 0:
		return errors.New(strconv.Itoa(broken) + " checks could not be run")
	}
	return nil
}
