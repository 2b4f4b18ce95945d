// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"

	"containerd-shim.v1/integration/catalogue"
)

func list(args []string) error {
	set := flag.NewFlagSet("shimverify list", flag.ContinueOnError)
	markdown := set.Bool("markdown", false, "write all of them as one document, docs/bugs.md")
	matrix := set.Bool("matrix", false, "write what each known release does, docs/matrix.md")
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() > 1 {
		return fmt.Errorf("unexpected argument %q: one argument may hold several patterns, separated by commas", set.Arg(1))
	}
	pattern := set.Arg(0)
	if *markdown {
		_, err := fmt.Print(catalogue.Markdown())
		return err
	}
	if *matrix {
		_, err := fmt.Print(catalogue.Matrix())
		return err
	}
	checks := catalogue.Matching(pattern)
	if len(checks) == 0 {
		fmt.Fprintf(os.Stderr, "shimverify: no check matches %q\n", pattern)
		return errFailed
	}
	for _, c := range checks {
		kind := ""
		if catalogue.Conformance(c.ID) {
			kind = "  (conformance: every known release passes)"
		}
		switch {
		case c.V1Only != "":
			kind += "  (v1 only: " + c.V1Only + ")"
		case c.V2Only:
			kind += "  (v2 only)"
		}
		fmt.Printf("%-5s %s%s\n      seen    %s\n      asserts %s\n", c.ID, c.Name, kind, c.Incident, c.Asserts)
	}
	if pattern == "" {
		fmt.Printf("\nno checks of their own:\n")
		for _, n := range catalogue.Notes() {
			fmt.Printf("%-5s %s: %s\n", n.ID, n.Name, n.Why)
		}
	}
	return nil
}
