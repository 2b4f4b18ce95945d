// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"

	"containerd-shim.v1/internal/errclass"

	"github.com/containerd/errdefs"
)

// StateError is a request that came at the wrong time. Its class is
// FailedPrecondition, or NotFound if a deleted process is to be deleted or killed.
type StateError struct {
	Phase Phase
	Event Event
	why   string
}

func (e *StateError) Error() string {
	return fmt.Sprintf("%s: %v", e.why, e.Unwrap())
}

// Unwrap returns the class.
func (e *StateError) Unwrap() error {
	if e.Phase == Deleted && (e.Event == WantDelete || e.Event == WantKill) {
		return errdefs.ErrNotFound
	}
	return errdefs.ErrFailedPrecondition
}

// classed is an error whose class is not part of its text. Texts that come
// from runc go to clients as they are: dockerd reads them.
type classed struct {
	msg   string
	class error
}

func (e *classed) Error() string { return e.msg }
func (e *classed) Unwrap() error { return e.class }

// internalf returns an error of class Internal, or of ResourceExhausted if it wraps
// an error number that says so.
func internalf(format string, args ...any) error { return errclass.Internalf(format, args...) }

// invalidf returns an error of class InvalidArgument.
func invalidf(format string, args ...any) error { return errclass.Invalidf(format, args...) }
