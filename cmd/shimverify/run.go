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

// outcome is the result of one check on one shim.
type outcome struct {
	Shim  string
	Check catalogue.Check
	integration.Result
}

// runVerb is both run and compare: the latter has more than one shim.
func runVerb(args []string) error {
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	shim := fs.String("shim", "containerd-shim", "the shim to test")
	runtime := fs.String("runtime", "runc", "the OCI runtime")
	only := fs.String("only", "", "patterns of ids and names, separated by commas")
	count := fs.Int("n", 1, "how many times")
	verbose := fs.Bool("v", false, "print the log of each check")
	jsonFile := fs.String("json", "", "write the results as JSON")
	var others repeated
	fs.Var(&others, "vs", "another shim to test beside it")
	if err := fs.Parse(args); err != nil {
		return err
	}
	checks := catalogue.Matching(*only)
	if len(checks) == 0 {
		return fmt.Errorf("no check matches %q (shimverify list)", *only)
	}
	cfg, err := setup(*shim, *runtime)
	if err != nil {
		return err
	}
	var out []outcome
	for _, path := range append([]string{*shim}, others...) {
		one := cfg
		one.Shim = path
		for n := range *count {
			for _, check := range checks {
				r := integration.Run(one, check.ID+"-"+strconv.Itoa(n), check.Limit, check.Run)
				out = append(out, outcome{path, check, r})
				report(os.Stdout, out[len(out)-1], *verbose)
			}
		}
	}
	err = cfg.Close()
	if *jsonFile != "" {
		err = errors.Join(err, writeJSON(*jsonFile, out))
	}
	summary(os.Stdout, out)
	if err != nil {
		return err
	}
	return judge(out)
}

// judge is what the exit status says.
func judge(out []outcome) error {
	var broken, failed int
	for _, o := range out {
		switch o.Verdict {
		case integration.Broken:
			broken++
		case integration.Fail:
			failed++
		}
	}
	switch {
	case failed > 0:
		return errFailed
	case broken > 0:
		return fmt.Errorf("%d checks could not be run", broken)
	}
	return nil
}
