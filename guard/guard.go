// SPDX-License-Identifier: Apache-2.0

// Package guard keeps a panic in one goroutine from ending the shim: the
// container would be left without a supervisor, and its exit would be lost.
//
// The panic is logged with its stack, and what was called counts as done, or
// as failed. So whoever calls must leave no mutex locked on the way (unlock by
// defer, or do nothing in between that can panic) and must do afterwards, not
// inside, what others wait for. A fatal error of the Go runtime, such as a
// concurrent map write, cannot be recovered from and ends the shim all the same.
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
// its stack, and the error, of class Internal, says so. what names what fn does.
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

// Go is Do in a goroutine of its own, which outlives the call that makes it: its
// only profiling label is "task", what it does, not those of the caller.
func Go(what string, fn func()) {
	go pprof.Do(context.Background(), pprof.Labels("task", what), func(context.Context) { Do(what, fn) })
}
