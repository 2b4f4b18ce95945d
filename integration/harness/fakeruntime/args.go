// SPDX-License-Identifier: Apache-2.0

package fakeruntime

import (
	"slices"
	"strings"
)

// globals with a value, as go-runc passes them before the verb.
var globals = []string{"--root", "--log", "--log-format", "--criu", "--rootless"}

// verbs' own with a value, that matter here.
var verbs = []string{"--pid-file", "--process", "-p", "--console-socket"}

// invocation is a runtime command line taken apart.
type invocation struct {
	args    []string
	verb    string
	log     string // --log
	pidFile string // --pid-file
	process string // --process
	console string // --console-socket
}

func parse(args []string) invocation {
	inv := invocation{args: args}
	for i := 0; i < len(args); i++ {
		name, value, inline := strings.Cut(args[i], "=")
		if inv.verb == "" && (!strings.HasPrefix(name, "-") || name == "--version") {
			inv.verb = name
			continue
		}
		takes := inv.verb == "" && slices.Contains(globals, name) || slices.Contains(verbs, name)
		if takes && !inline && i+1 < len(args) {
			i++
			value = args[i]
		}
		switch name {
		case "--log":
			inv.log = value
		case "--pid-file":
			inv.pidFile = value
		case "--process", "-p":
			inv.process = value
		case "--console-socket":
			inv.console = value
		}
	}
	return inv
}

func (inv invocation) contains(piece string) bool {
	return slices.ContainsFunc(inv.args, func(a string) bool { return strings.Contains(a, piece) })
}
