// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
)

// ticker shows on a terminal what is being done; elsewhere it is silent.
type ticker struct {
	on        bool
	all, done int
	running   []string
}

func newTicker(all int) *ticker {
	_, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS)
	return &ticker{on: err == nil, all: all}
}

func (t *ticker) begin(c catalogue.Check) {
	t.running = append(t.running, c.ID)
	t.show()
}

func (t *ticker) end(c catalogue.Check) {
	t.done++
	if i := slices.Index(t.running, c.ID); i >= 0 {
		t.running = slices.Delete(t.running, i, i+1)
	}
	t.clear()
}

// show rewrites the last line. What does not fit into 80 columns would be
// broken into a second one, which clear does not reach.
func (t *ticker) show() {
	if t.on {
		fmt.Printf("\r\x1b[K%.79s", fmt.Sprintf(".....  %d of %d, now %s", t.done, t.all, strings.Join(t.running, " ")))
	}
}

func (t *ticker) clear() {
	if t.on {
		fmt.Print("\r\x1b[K")
	}
}

// report prints one result as one line, and what a person needs to judge a
// failure below it.
func report(w io.Writer, o outcome, verbose bool) {
	known := ""
	switch {
	case o.surprising():
		known = "  (known for: " + string(o.Known) + ")"
	case o.Known == harness.Fail:
		known = "  (as known)"
	case o.Either:
		known = "  (known for both)"
	}
	fmt.Fprintf(w, "%-6s %-5s %-48s %8s  %s%s\n", o.Verdict, o.Check.ID, o.Check.Name, o.Duration.Round(time.Millisecond), o.Shim, known)
	if o.Verdict != harness.Pass {
		for _, m := range o.Messages {
			fmt.Fprintf(w, "       %s\n", strings.ReplaceAll(m, "\n", "\n       "))
		}
	}
	if verbose {
		for _, l := range o.Log {
			fmt.Fprintf(w, "       | %s\n", strings.ReplaceAll(l, "\n", "\n       | "))
		}
		if o.Stacks != "" {
			fmt.Fprintf(w, "       stacks of the shim:\n%s\n", o.Stacks)
		}
	}
}

// shimsOf lists the shims in the order in which they were tested.
func shimsOf(out []outcome) []string {
	var order []string
	for _, o := range out {
		if !slices.Contains(order, o.Shim) {
			order = append(order, o.Shim)
		}
	}
	return order
}

// checksOf lists the checks in the order in which they were run.
func checksOf(out []outcome) []catalogue.Check {
	var order []catalogue.Check
	for _, o := range out {
		if !slices.ContainsFunc(order, func(c catalogue.Check) bool { return c.ID == o.Check.ID }) {
			order = append(order, o.Check)
		}
	}
	return order
}

// verdicts counts the verdicts of one check on one shim: more than one where
// it was run several times.
func verdicts(out []outcome, shim, id string) map[harness.Verdict]int {
	n := map[harness.Verdict]int{}
	for _, o := range out {
		if o.Shim == shim && o.Check.ID == id {
			n[o.Verdict]++
		}
	}
	return n
}

// cell is the verdict as a word, with counts where the runs differ; "not asked" where the
// check is for another kind of shim.
func cell(n map[harness.Verdict]int) string {
	if len(n) == 0 {
		return "not asked"
	}
	if len(n) == 1 {
		for v := range n {
			return string(v)
		}
	}
	var parts []string
	for _, v := range []harness.Verdict{harness.Pass, harness.Fail, harness.Broken} {
		if n[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[v], v))
		}
	}
	return strings.Join(parts, ", ")
}

// matrix prints checks × shims.
func matrix(w io.Writer, out []outcome) {
	shims := shimsOf(out)
	fmt.Fprintln(w)
	for i, s := range shims {
		fmt.Fprintf(w, "(%d) %s\n", i+1, s)
	}
	fmt.Fprintf(w, "%-5s %-48s", "", "")
	for i := range shims {
		fmt.Fprintf(w, " %-14s", fmt.Sprintf("(%d)", i+1))
	}
	fmt.Fprintln(w)
	for _, c := range checksOf(out) {
		fmt.Fprintf(w, "%-5s %-48s", c.ID, c.Name)
		for _, s := range shims {
			fmt.Fprintf(w, " %-14s", cell(verdicts(out, s, c.ID)))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

func summary(w io.Writer, out []outcome) {
	for _, shim := range shimsOf(out) {
		n, surprises, unknown := map[harness.Verdict]int{}, 0, 0
		for _, o := range out {
			if o.Shim == shim {
				n[o.Verdict]++
				switch {
				case o.surprising():
					surprises++
				case o.Known == "":
					unknown++
				}
			}
		}
		fmt.Fprintf(w, "%s: %d pass, %d fail, %d could not be run; %d other than the release is known for, %d whose verdict is not known\n",
			shim, n[harness.Pass], n[harness.Fail], n[harness.Broken], surprises, unknown)
	}
}
