// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"strings"
)

const matrixIntro = `# What each known shim does

v1 shims and runc-v2 shims side by side, as expected.txt and expected-v2.txt have it, whose comments say why. **F** fails, – passes, ? may do either, "not known"
was not judged; an empty cell is a check that this kind of shim is not asked. What a check asserts is in [bugs.md](bugs.md) and ` + "`shimverify list`" + `.

This file is made by ` + "`make docs/matrix.md`" + `.

`

// Matrix returns a table of what the known releases do, v1 and v2 side by side.
func Matrix() string {
	var b strings.Builder
	b.WriteString(matrixIntro)
	fmt.Fprintf(&b, "| check | | %s |\n|---|---|%s\n", strings.Join(Releases(), " | "), strings.Repeat("---|", len(Releases())))
	fails, known := map[string]int{}, map[string]int{}
	for _, c := range All() {
		fmt.Fprintf(&b, "| %s | %s |", c.ID, cell(c.Name))
		for _, r := range Releases() {
			does := letter(r, c.ID)
			switch does {
			case "F":
				fails[r]++
				known[r]++
			case "P":
				known[r]++
			}
			fmt.Fprintf(&b, " %s |", map[string]string{"F": "**F**", "P": "–", "?": "?", ".": "not known"}[does])
		}
		b.WriteString("\n")
	}
	b.WriteString("| | fails, of those that are known |")
	for _, r := range Releases() {
		fmt.Fprintf(&b, " %d of %d |", fails[r], known[r])
	}
	b.WriteString("\n")
	return b.String()
}
