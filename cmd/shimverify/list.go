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
		fmt.Printf("%-5s %s\n      seen    %s\n      asserts %s\n", c.ID, c.Name, c.Incident, c.Asserts)
	}
	return nil
}
