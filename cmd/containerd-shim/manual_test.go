// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestManualHasTheFlags: the manual page has the flags that -help prints, and no
// others.
func TestManualHasTheFlags(t *testing.T) {
	page, err := os.ReadFile("../../packaging/man/containerd-shim.8")
	if err != nil {
		t.Fatal(err)
	}
	_, options, _ := strings.Cut(string(page), ".SH OPTIONS\n")
	options, _, found := strings.Cut(options, ".PP\n")
	if !found {
		t.Fatal("the page has no options")
	}
	options = strings.ReplaceAll(options, `\-`, "-")
	manual := flagsOf(options, `(?m)^\.BI? ?R? .*$`)
	help := flagsOf(usage, `(?m)^  -.*$`)
	if len(help) < 10 || !slices.Equal(manual, help) {
		t.Errorf("the manual page has\n%q, -help\n%q", manual, help)
	}
}

// flagsOf returns the flags in the lines of text that match line, sorted.
func flagsOf(text, line string) []string {
	flag := regexp.MustCompile(`(?:^|[ ,])(-[a-z][a-z-]*)\b`)
	var flags []string
	for _, l := range regexp.MustCompile(line).FindAllString(text, -1) {
		if head, _, ok := strings.Cut(strings.TrimPrefix(l, "  "), "  "); ok {
			l = head // the rest is the description
		}
		for _, m := range flag.FindAllStringSubmatch(l, -1) {
			flags = append(flags, m[1])
		}
	}
	slices.Sort(flags)
	return slices.Compact(flags)
}
