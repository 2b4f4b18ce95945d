// SPDX-License-Identifier: Apache-2.0

package goheap

import (
	"strconv"
	"strings"
)

// Era is how some releases of Go lay out the structures of their runtime: the offsets
// of fields, in bytes.
type Era struct {
	swiss bool // maps since Go 1.24

	recvx, recvq uint64 // in hchan; its sendq is 16 behind recvq
	elem         uint64 // in sudog: the address of the element
	startPC      uint64 // in g: the function that it runs
}

// eras are those that were tested, by the minor release of Go 1.
var eras = map[int]*Era{
	19: {recvx: 48, recvq: 56, elem: 24, startPC: 312},
	26: {swiss: true, recvx: 56, recvq: 64, elem: 32, startPC: 304},
}

// Offsets that are the same in every era.
const (
	sudogG    = 0
	sudogNext = 8
	gStackHi  = 8
	gSchedSP  = 56
	gStatus   = 144
	gID       = 152
)

// For returns the era of a version such as "go1.19.8", or nil if it is not known.
func For(version string) *Era {
	minor, _, _ := strings.Cut(strings.TrimPrefix(version, "go1."), ".")
	minor, _, _ = strings.Cut(minor, " ")
	n, err := strconv.Atoi(minor)
	if err != nil || !strings.HasPrefix(version, "go1.") {
		return nil
	}
	return eras[n]
}
