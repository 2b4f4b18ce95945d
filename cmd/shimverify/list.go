// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"containerd-shim/integration/catalogue"
)

func list(args []string) error {
	pattern := ""
	if len(args) > 0 {
		pattern = args[0]
	}
	for _, c := range catalogue.Matching(pattern) {
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
