// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// preface is what the document says of all results.
const preface = `# What it was run with

Made by ` + "`make docs/support.md`" + ` of what ` + "`make matrix`" + ` ran, a part of it so far: containerd with its own ctr, runc and crun, each from the
releases that Debian has shipped (containerd 1.2.6 is built from its module), on one kernel, with cgroup v1 and as root. + is passed, – is failed, · was not run;
what failed, and why a cell could not be run, stands below. A cell that has never been run is empty.

Each pair of daemon and runtime ends with a census: no process, mount, cgroup, FIFO, socket or file of it may be left.

`

// known is what only a person can say: what was read, and what nobody has looked at.
const known = `## Read, but not run

- A daemon on cgroup v2: containerd's v1 runtime cannot run there, whatever the shim.
- containerd 2: it has no v1 runtime, and never starts this shim.

## Not known

- dockerd beyond Debian's 20.10.24, checkpoint and restore with CRIU, umask, ulimit, oom_score_adj, a read-only root, userns-remap.
- Kernels other than the one that the tests run on, and arm64 beyond that everything builds for it.
- SELinux; AppArmor beyond what docs/security.md names.
`

// document makes docs/support.md from a record.
func document(r record) string {
	var b strings.Builder
	b.WriteString(preface)
	names := slices.Collect(func(yield func(string) bool) {
		for _, s := range scenarios {
			if !yield(s.name) {
				return
			}
		}
	})
	b.WriteString("| scenario | |\n|---|---|\n")
	for _, s := range scenarios {
		fmt.Fprintf(&b, "| %s | %s |\n", s.name, s.what)
	}
	names = append(names, census)
	for _, d := range daemonPrograms {
		fmt.Fprintf(&b, "\n## %s\n\n| runtime | %s |\n|---|%s\n", d.name, strings.Join(names, " | "), strings.Repeat("---|", len(names)))
		var notes []string
		for _, p := range pairs() {
			if p.daemon != d {
				continue
			}
			fmt.Fprintf(&b, "| %s |", p.runtime.name)
			for _, name := range names {
				res := r[p.String()][name]
				fmt.Fprintf(&b, " %s |", sign[res.Verdict])
				if res.Reason != "" {
					note := fmt.Sprintf("- %s: %s", p.runtime.name, res.Reason)
					if !slices.Contains(notes, note) {
						notes = append(notes, note)
					}
				}
			}
			b.WriteString("\n")
		}
		if len(notes) > 0 {
			b.WriteString("\n" + strings.Join(notes, "\n") + "\n")
		}
	}
	b.WriteString("\n" + known)
	return b.String()
}

// sign of a verdict in a table; that of no result is empty.
var sign = map[verdict]string{passed: "+", failed: "–", notRun: "·"}
