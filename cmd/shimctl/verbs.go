// SPDX-License-Identifier: Apache-2.0

package main

// verbs are the commands in the order of the help text.
func verbs() []verb {
	return []verb{psVerb}
}

// childMain runs the part of a helper process, when this is one.
func childMain() bool { return false }
