// SPDX-License-Identifier: Apache-2.0

package inplace

import "containerd-shim.v1/cmd/shimctl/internal/gotext"

// Code is memory of the process in which code may stand.
type Code struct {
	Addr uintptr
	Size int
}

// StartCode is the place of the program's start-up code, which never runs again.
// To find it takes a while: it is looked for before the process is stopped.
func StartCode(t *gotext.Table) (Code, error) {
	addr, size, err := t.StartCode()
	return Code{uintptr(addr), size}, err
}
