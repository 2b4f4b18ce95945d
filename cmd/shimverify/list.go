// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"containerd-shim.v1/integration/catalogue"
)

func list(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("unexpected argument %q: one argument may hold several patterns, separated by commas", args[1])
	}
	pattern := strings.Join(args, "")
	if pattern == "-markdown" || pattern == "--markdown" {
		_, err := fmt.Print(catalogue.Markdown())
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
