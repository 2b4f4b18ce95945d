// SPDX-License-Identifier: Apache-2.0

// Package errclass gives errors their class, one of errdefs': what a client is
// told beside the text. It holds the only table of error numbers.
package errclass

import (
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// exhausted are the error numbers of a limit that has been reached; the same
// call may succeed later.
var exhausted = []unix.Errno{
	unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN, unix.ENOBUFS, unix.ENOSPC, unix.EDQUOT, unix.EUSERS,
}

// misnamed are the error numbers that say that a path does not lead to
// anything that can be opened as it was to be.
var misnamed = []unix.Errno{
	unix.ENOENT, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.ENXIO, unix.ENODEV,
	unix.EACCES, unix.EPERM, unix.EROFS, unix.EINVAL, unix.ETXTBSY, unix.ENOEXEC,
}

func among(err error, table []unix.Errno) bool {
	var errno unix.Errno
	return errors.As(err, &errno) && slices.Contains(table, errno)
}

// Exhausted reports whether err is due to a limit of the system or the shim.
func Exhausted(err error) bool { return among(err, exhausted) }

// Misnamed reports whether err says that a path does not lead to what it should.
func Misnamed(err error) bool { return among(err, misnamed) }

// Internalf returns an error of the class Internal, or ResourceExhausted if
// what it wraps has the error number of a limit.
func Internalf(format string, args ...any) error {
	return system(fmt.Errorf(format, args...))
}

// Pathf returns an error about a path that a client has named: of the class
// InvalidArgument if the path is at fault, else as Internalf's.
func Pathf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if Misnamed(err) {
		return With(errdefs.ErrInvalidArgument, err)
	}
	return system(err)
}

// Invalidf returns an error of the class InvalidArgument.
func Invalidf(format string, args ...any) error {
	return With(errdefs.ErrInvalidArgument, fmt.Errorf(format, args...))
}

func system(err error) error {
	if Exhausted(err) {
		return With(errdefs.ErrResourceExhausted, err)
	}
	return With(errdefs.ErrInternal, err)
}

// With returns err with a class; its text stays as it is.
func With(class, err error) error { return &classed{err, class} }

type classed struct{ err, class error }

func (e *classed) Error() string   { return e.err.Error() }
func (e *classed) Unwrap() []error { return []error{e.err, e.class} }
