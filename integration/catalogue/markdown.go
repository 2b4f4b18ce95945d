// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"strings"
)

// intro is the head of the list of known bugs.
const intro = `# Known bugs of the v1 shim

B-numbers are bugs of upstream's shims that were reported or seen there; F-numbers were found while this project tested its own. Each has at least
one check, whose id is the number and, if a bug has several forms, a letter: ` + "`shimverify run --shim PATH --only B24`" + `. The last column
says which of %s fail it; those with "?" may pass or fail. This project's shim passes all checks. What each shim did in one run, and in how
many seconds, is in [verdicts.md](verdicts.md).

This file is made by ` + "`make docs/bugs.md`" + ` from the checks in integration/catalogue.

| check | what | what happens | what is right | fails on |
|---|---|---|---|---|
`

// Markdown returns the list of known bugs: for every check with a B- or an F-number,
// what happens, what is right, and which releases fail it; then the Notes.
func Markdown() string {
	var b strings.Builder
	releases := Releases()
	fmt.Fprintf(&b, intro, strings.Join(releases, ", "))
	for _, c := range All() {
		if c.ID[0] != 'B' && c.ID[0] != 'F' {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.ID, cell(c.Name), cell(c.Incident), cell(c.Asserts), failsOn(releases, c.ID))
	}
	b.WriteString("\n## No checks of their own\n\n| number | what | where it is checked, or why it cannot be |\n|---|---|---|\n")
	for _, n := range Notes() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", n.ID, cell(n.Name), cell(n.Why))
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// failsOn names the releases that fail a check, or, with a "?", may fail it.
func failsOn(releases []string, id string) string {
	var out []string
	for _, r := range releases {
		switch letter(r, id) {
		case "F":
			out = append(out, r)
		case "?":
			out = append(out, r+"?")
		}
	}
	switch len(out) {
	case 0:
		return "none"
	case len(releases):
		if !strings.Contains(strings.Join(out, ""), "?") {
			return "all"
		}
	}
	return strings.Join(out, ", ")
}
