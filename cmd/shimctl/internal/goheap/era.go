// SPDX-License-Identifier: Apache-2.0

package goheap

import (
	"strconv"
	"strings"
)

// Era is how some releases of Go lay out the structures of their runtime: the offsets
// of fields, in bytes.
type Era struct {
	// StackArgs says that arguments are passed on the stack (before Go 1.17). A stack dump
	// shows them with the results, as plain words, and does not mark those that may be
	// stale.
	StackArgs bool

	swiss bool // maps since Go 1.24

	recvx, recvq        uint64 // in hchan; its sendq is 16 behind recvq
	elem                uint64 // in sudog: the address of the element
	status, id, startPC uint64 // in g: its state, its number, the function that it runs
}

// eras are those that were tested, by the minor release of Go 1.
var eras = map[int]*Era{
	15: {StackArgs: true, recvx: 48, recvq: 56, elem: 24, status: 144, id: 152, startPC: 296},
	19: {recvx: 48, recvq: 56, elem: 24, status: 144, id: 152, startPC: 312},
	24: {swiss: true, recvx: 56, recvq: 64, elem: 24, status: 152, id: 160, startPC: 304},
	26: {swiss: true, recvx: 56, recvq: 64, elem: 32, status: 144, id: 152, startPC: 304},
}

// Offsets that are the same in every era.
const (
	sudogG    = 0
	sudogNext = 8
	gStackHi  = 8
	gSchedSP  = 56
)

// For returns the era of a version such as "go1.19.8", or nil if it is not known.
func For(version string) *Era { return eras[Minor(version)] }

// Minor returns the minor release of Go 1, such as 19 of "go1.19.8"; 0 if there is none.
func Minor(version string) int {
	minor, ok := strings.CutPrefix(version, "go1.")
	if !ok {
		return 0
	}
	minor, _, _ = strings.Cut(minor, ".")
	minor, _, _ = strings.Cut(minor, " ")
	n, err := strconv.Atoi(minor)
	if err != nil {
		return 0
	}
	return n
}
