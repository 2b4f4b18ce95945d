// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"strings"
)

// intro is the head of the list of known bugs.
const intro = `# Known bugs of the shims

B-numbers are bugs of upstream's shims that were reported or seen there; F-numbers were found while this project tested its own. Each has at least
one check, whose id is the number and, if a bug has several forms, a letter: ` + "`shimverify run --shim PATH --only B24`" + `. V-numbers are
about what only ` + "`containerd-shim-runc-v2`" + ` has. The last two columns say which v1 shims, of %s, and which v2 shims, of
%s, fail it; those with "?" may pass or fail, and "–" is a kind of shim that is not asked. What
a v2 shim does is not known where expected-v2.txt has a dot. This project's shim passes all
checks for v1. What each shim did in one run, and in how many seconds, is in [verdicts.md](verdicts.md).

This file is made by ` + "`make docs/bugs.md`" + ` from the checks in integration/catalogue.

| check | what | what happens | what is right | fails on | runc-v2: fails on |
|---|---|---|---|---|---|
`

// Markdown returns the list of known bugs: for every check with a B-, an F- or a V-number,
// what happens, what is right, and which releases fail it; then the checks that v2 shims
// are not asked, and the Notes.
func Markdown() string {
	var b strings.Builder
	v1, v2 := releases(expectedV1), releases(expectedV2)
	fmt.Fprintf(&b, intro, strings.Join(v1, ", "), strings.ReplaceAll(strings.Join(v2, ", "), v2Prefix, ""))
	for _, c := range All() {
		if !strings.Contains("BFV", c.ID[:1]) {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", c.ID, cell(c.Name), cell(c.Incident), cell(c.Asserts),
			failsOn(v1, c.ID), strings.ReplaceAll(failsOn(v2, c.ID), v2Prefix, ""))
	}
	b.WriteString("\n## Not asked of v2 shims\n\n| check | why |\n|---|---|\n")
	for _, c := range All() {
		if c.V1Only != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", c.ID, cell(c.V1Only))
		}
	}
	b.WriteString("\n## No checks of their own\n\n| number | what | where it is checked, or why it cannot be |\n|---|---|---|\n")
	for _, n := range Notes() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", n.ID, cell(n.Name), cell(n.Why))
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// failsOn names the releases that fail a check, or, with a "?", may fail it, and says if
// some of the releases are not known.
func failsOn(releases []string, id string) string {
	var out, unknown []string
	if letter(releases[0], id) == "" {
		return "–"
	}
	for _, r := range releases {
		switch letter(r, id) {
		case ".":
			unknown = append(unknown, r)
		case "F":
			out = append(out, r)
		case "?":
			out = append(out, r+"?")
		}
	}
	said := strings.Join(out, ", ")
	switch {
	case len(unknown) == len(releases):
		return "not known"
	case len(out) == 0:
		said = "none"
	case len(out) == len(releases) && !strings.Contains(said, "?"):
		said = "all"
	}
	if len(unknown) > 0 {
		said += " (not known: " + strings.Join(unknown, ", ") + ")"
	}
	return said
}
