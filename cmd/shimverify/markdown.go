// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
)

// writeMarkdown writes the verdicts as a table for a document: a column for
// each shim under the name of its release, a row for each check, and what the
// columns have in common.
func writeMarkdown(path string, out []outcome) error {
	shims := shimsOf(out)
	checks := checksOf(out)
	slices.SortFunc(checks, func(a, b catalogue.Check) int { return strings.Compare(a.ID, b.ID) })
	var b strings.Builder
	b.WriteString("| check | |")
	for _, s := range shims {
		fmt.Fprintf(&b, " %s |", cmp.Or(catalogue.Release(s), s))
	}
	fmt.Fprintf(&b, "\n|---|---|%s\n", strings.Repeat("---|", len(shims)))
	var everywhere []string
	failing, asked := make([]int, len(shims)), make([]int, len(shims))
	for _, c := range checks {
		fmt.Fprintf(&b, "| %s | %s |", c.ID, strings.ReplaceAll(c.Name, "|", "\\|"))
		fails := false
		for i, s := range shims {
			n := verdicts(out, s, c.ID)
			text := "–"
			if len(n) == 0 {
				fmt.Fprintf(&b, " %s |", cell(n))
				continue
			}
			asked[i]++
			if n[harness.Pass] == 0 || len(n) > 1 {
				text = "**" + cell(n) + "**"
				fails = true
				failing[i]++
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteString("\n")
		if !fails {
			everywhere = append(everywhere, c.ID)
		}
	}
	b.WriteString("| | checks that fail |")
	for i, n := range failing {
		fmt.Fprintf(&b, " %d of %d |", n, asked[i])
	}
	fmt.Fprintf(&b, "\n\nPassed by every shim of this table (%d): %s.\n", len(everywhere), strings.Join(everywhere, ", "))
	var twice []string
	for _, o := range out {
		if o.First != nil {
			twice = append(twice, fmt.Sprintf("%s on %s (%s, then %s)", o.Check.ID, cmp.Or(catalogue.Release(o.Shim), o.Shim), o.First.Verdict, o.Verdict))
		}
	}
	if len(twice) > 0 {
		fmt.Fprintf(&b, "\nRun once more, and counted by that: %s.\n", strings.Join(twice, ", "))
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
