// SPDX-License-Identifier: Apache-2.0

package goheap

import (
	"strconv"
	"strings"
)

// Era says how the releases of Go from one to another lay out what belongs to the
// runtime.
type Era struct {
	swiss bool // maps since Go 1.24

	recvx, recvq uint64 // of hchan; its sendq is 16 behind recvq
	elem         uint64 // of sudog: the address of the element
	startPC      uint64 // of g: the function that it runs
}

// eras are those that were tried, by the minor release of Go 1.
var eras = map[int]*Era{
	19: {recvx: 48, recvq: 56, elem: 24, startPC: 312},
	26: {swiss: true, recvx: 56, recvq: 64, elem: 32, startPC: 304},
}

// In every era.
const (
	sudogG    = 0
	sudogNext = 8
	gStackHi  = 8
	gSchedSP  = 56
	gStatus   = 144
	gID       = 152
)

// For is the era of a version such as "go1.19.8"; nil when it is not known.
func For(version string) *Era {
	minor, _, _ := strings.Cut(strings.TrimPrefix(version, "go1."), ".")
	minor, _, _ = strings.Cut(minor, " ")
	n, err := strconv.Atoi(minor)
	if err != nil || !strings.HasPrefix(version, "go1.") {
		return nil
	}
	return eras[n]
}
