// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// verbs are the commands in the order of the help text.
func (p program) verbs() []verb {
	return []verb{p.psVerb(), p.checkVerb(), p.stacksVerb(), p.explainVerb(), p.repairVerb(), p.upgradeVerb(), p.exportVerb(), p.reportVerb()}
}

// childMain runs a helper process's part and exits, if this is one.
func childMain() bool {
	if len(os.Args) > 1 && os.Args[1] == stacks.TracerArg {
		os.Exit(stacks.TracerMain(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == takeover.Arg {
		os.Exit(takeover.Main())
	}
	return false
}
