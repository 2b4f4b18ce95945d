// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The manual page has, verb by verb, the flags that -h prints, and no others.
func TestManualHasTheFlags(t *testing.T) {
	page, err := os.ReadFile("../../packaging/man/shimverify.1")
	if err != nil {
		t.Fatal(err)
	}
	_, options, _ := strings.Cut(string(page), ".SH OPTIONS\n")
	options, _, _ = strings.Cut(options, ".SH ")
	options = strings.ReplaceAll(options, `\-`, "-")
	total := 0
	for _, part := range strings.Split(options, ".SS ")[1:] {
		verbs, part, _ := strings.Cut(part, "\n")
		manual := all(part, `[ "](--?[a-z0-9]+)`)
		for verb := range strings.SplitSeq(verbs, ", ") {
			out, err := bare(built(t), verb, "-h").CombinedOutput()
			if err != nil {
				t.Fatalf("%s -h: %v\n%s", verb, err, out)
			}
			help := all(string(out), `(?m)^  (-[a-z0-9]+)`)
			if len(help) == 0 || !slices.Equal(manual, help) {
				t.Errorf("of %s the manual page has\n%q, -h\n%q", verb, manual, help)
			}
			total++
		}
	}
	if verbs := all(usage, `(?m)^  ([a-z]+) `); total != len(verbs) {
		t.Errorf("the manual page has the options of %d verbs, -h lists %q", total, verbs)
	}
}

// all lists what the group of the expression matches in text, sorted, each flag
// with one dash: -n and --n are the same.
func all(text, expression string) []string {
	var found []string
	for _, m := range regexp.MustCompile(expression).FindAllStringSubmatch(text, -1) {
		found = append(found, strings.Replace(m[1], "--", "-", 1))
	}
	slices.Sort(found)
	return slices.Compact(found)
}
