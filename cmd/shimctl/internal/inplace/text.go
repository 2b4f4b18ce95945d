// SPDX-License-Identifier: Apache-2.0

package inplace

import "containerd-shim.v1/cmd/shimctl/internal/gotext"

// Code is a range of the process's memory to which code may be written.
type Code struct {
	Addr uintptr
	Size int
}

// StartCode returns the place of the program's start-up code, which never runs again.
// Finding it takes a while, so call it before the process is stopped.
func StartCode(t *gotext.Table) (Code, error) {
	addr, size, err := t.StartCode()
	return Code{uintptr(addr), size}, err
}
