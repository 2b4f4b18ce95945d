// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package inplace

import (
	"errors"
	"runtime"
)

// Supported reports whether programs of this architecture can be exchanged.
const Supported = false

var errArch = errors.New("programs of " + runtime.GOARCH + " cannot be exchanged yet")

func callOf(int) (Call, error) { return Call{}, errArch }

func (t *Tracee) canExec(int) bool { return false }

// Exec returns an error: it is not implemented on this architecture.
func (t *Tracee) Exec(int, Code, *Image, func(string)) error { return errArch }

func stackPointer(int) (uintptr, error) { return 0, errArch }
