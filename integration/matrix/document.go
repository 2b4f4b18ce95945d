// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// preface is what the document says of all results; where %s is, that some are missing.
const preface = `# What it was run with

Made by ` + "`make docs/support.md`" + ` of what ` + "`make matrix`" + ` ran%s: containerd with its own ctr, dockerd with its own docker, runc and crun, each from the
releases that Debian has shipped (containerd 1.1.4 and 1.2.6 are built from their modules), on one kernel, with cgroup v1 and as root. + is passed, – is failed,
· was not run; what failed, and why a cell could not be run, stands below.%s

Each pair of daemon and runtime ends with a census: no process, mount, cgroup, FIFO, socket or file of it may be left.
`

// known is what only a person can say: what other tests run, what was read, and what
// nobody has looked at.
const known = `
## Tested elsewhere

With Debian 12's containerd 1.6.20, dockerd 20.10.24 and runc 1.1.5 (` + "`make daemons/test`" + `, ` + "`make catalogue/test`" + `):

| what | where |
|---|---|
| umask 000 and 077 of the shim | checks B62 and B62b of [bugs.md](bugs.md) |
| limits of descriptors and core files, oom_score_adj of a container and of the shim, also after an exchange in place | TestContainerHasTheDaemonsLimitsAndItsOwnScore |
| a state directory that is mounted noexec, nosuid and nodev | TestStateOnANoexecFileSystem |
| a state directory below a symbolic link | TestFilesOutliveTheTaskBelowALink |
| a cgroup of the shim's own | TestShimStaysInShimCgroup |

## Read, but not run

- A daemon on cgroup v2: containerd's v1 runtime cannot run there, whatever the shim.
- containerd 2: it has no v1 runtime, and never starts this shim.

## Not known

- dockerd of other releases than these; Docker 23 and later has no v1 runtime.
- Kernels other than those named here; on arm64 real daemons, and exchanges of upstream's shims, which are refused there.
- SELinux; AppArmor beyond what docs/security.md names.
`

// part is one kind of daemon in the document.
type part struct{ kind, title, text string }

var parts = []part{
	{"containerd", "containerd, with its own ctr", "The CRIU of checkpoint is sid's 4.2.1 with the runtimes of sid, runc 1.3.6 and crun 1.28, and Debian 13's 4.1.1 with the others. On a virtual machine whose processor takes breakpoints and never hits them CRIU waits for ever, " +
		"but not with CRIU_FAULT=130 in the daemon's environment, as here."},
	{"dockerd", "dockerd, with its own docker", "Its v1 runtime is always called runc; where it says crun, that is crun under this name."},
	{"releases", "From release to release, and back", "Containers are started under each release, and live on under all the others; one ends each time while no daemon runs.\n\n" +
		"Up to 1.3.8 a daemon's shims have abstract sockets, whose names end with a NUL. A daemon that is built with a newer Go, as Debian 13's with 1.24, does not find them, " +
		"and kills the containers. It does find them if their address is in the bundle before it starts, as here: " +
		"`printf '/containerd-shim/NAMESPACE/ID/shim.sock\\0' >/run/containerd/io.containerd.runtime.v1.linux/NAMESPACE/ID/address`. " +
		"Before a way back to an older build the file must be removed."},
}

// document makes docs/support.md from a record.
func document(r record) string {
	var b strings.Builder
	part, rest := "", ""
	if !r.whole() {
		part, rest = ", a part of it so far", " A cell that has not been run yet is empty."
	}
	fmt.Fprintf(&b, preface, part, rest)
	for _, p := range parts {
		fmt.Fprintf(&b, "\n## %s\n\n", p.title)
		if p.text != "" {
			b.WriteString(p.text + "\n\n")
		}
		b.WriteString("| scenario | |\n|---|---|\n")
		var names []string
		for _, s := range scenariosOf(p.kind) {
			fmt.Fprintf(&b, "| %s | %s |\n", s.name, s.what)
			names = append(names, s.name)
		}
		for _, d := range daemonPrograms {
			if d.kind() == p.kind {
				b.WriteString(r.table(d, append(names, census)))
			}
		}
	}
	b.WriteString("\n" + r.kernels())
	b.WriteString(known)
	return b.String()
}

// table has a line for each runtime of a daemon, and below it the reasons.
func (r record) table(d program, names []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n| runtime | %s |\n|---|%s\n", d.name, strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	var reasons []string
	runtimes := map[string][]string{} // that have the reason
	for _, p := range pairs() {
		if p.daemon != d {
			continue
		}
		fmt.Fprintf(&b, "| %s |", p.runtime.name)
		for _, name := range names {
			res := r[p.String()][name]
			fmt.Fprintf(&b, " %s |", sign[res.Verdict])
			if res.Reason == "" || slices.Contains(runtimes[res.Reason], p.runtime.name) {
				continue
			}
			if !slices.Contains(reasons, res.Reason) {
				reasons = append(reasons, res.Reason)
			}
			runtimes[res.Reason] = append(runtimes[res.Reason], p.runtime.name)
		}
		b.WriteString("\n")
	}
	if len(reasons) > 0 {
		b.WriteString("\n")
	}
	for _, reason := range reasons {
		fmt.Fprintf(&b, "- %s: %s\n", strings.Join(runtimes[reason], ", "), reason)
	}
	return b.String()
}

// sign of a verdict in a table; that of no result is empty.
var sign = map[verdict]string{passed: "+", failed: "–", notRun: "·"}
