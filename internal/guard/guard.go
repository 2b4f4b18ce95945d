// SPDX-License-Identifier: Apache-2.0

// Package guard keeps a panic in one goroutine from ending the shim: the
// container would be left without a supervisor, and its exit would be lost.
//
// The panic is logged with its stack, and the function counts as finished, or
// as failed. So it must leave no mutex locked (unlock by defer, or do nothing
// that can panic in between), and what others wait for must be done after the
// call, not inside it. A fatal error of the Go runtime, such as a concurrent map
// write, cannot be recovered from and ends the shim all the same.
package guard

import (
	"context"
	"fmt"
	"runtime/debug"
	"runtime/pprof"

	"github.com/containerd/errdefs"
	"github.com/sirupsen/logrus"
)

// Call calls fn and returns its error. If fn panics, the panic is logged with
// its stack, and an error of class Internal is returned. what describes fn in
// both.
func Call(what string, fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			logrus.Errorf("%s: panic: %v\n%s", what, r, debug.Stack())
			err = &panicked{what, r}
		}
	}()
	return fn()
}

// panicked is an error of class Internal.
type panicked struct {
	what  string
	value any
}

func (p *panicked) Error() string { return fmt.Sprintf("%s: panic: %v", p.what, p.value) }
func (p *panicked) Unwrap() error { return errdefs.ErrInternal }

// Do calls fn. If fn panics, the panic is logged and otherwise ignored.
func Do(what string, fn func()) {
	_ = Call(what, func() error { fn(); return nil }) // it was logged
}

// Go is Do in a new goroutine. It may outlive the caller's request, so it does
// not inherit the caller's profiling labels: its only one is "task", with what.
func Go(what string, fn func()) {
	go pprof.Do(context.Background(), pprof.Labels("task", what), func(context.Context) { Do(what, fn) })
}
