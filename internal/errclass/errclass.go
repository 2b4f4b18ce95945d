// SPDX-License-Identifier: Apache-2.0

// Package errclass gives errors their class, one of errdefs': what a client is
// told beside the text. It holds the tables of error numbers.
package errclass

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// exhausted are the error numbers of a limit that has been reached; the same
// call may succeed later. EFAULT is what a call gets if there is no page for one of its
// buffers: the buffers themselves are Go's, and right.
var exhausted = []unix.Errno{
	unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EFAULT, unix.EAGAIN, unix.ENOBUFS, unix.ENOSPC, unix.EDQUOT, unix.EUSERS,
}

// misnamed are the error numbers that say that a path does not lead to
// anything that can be opened as it was to be.
var misnamed = []unix.Errno{
	unix.ENOENT, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.ENXIO, unix.ENODEV,
	unix.EROFS, unix.EINVAL, unix.ETXTBSY, unix.ENOEXEC,
}

// denied are the error numbers of what root may not do, either: a security module, or a
// file system that does not trust it. It is neither the path's nor the client's fault.
var denied = []unix.Errno{unix.EACCES, unix.EPERM}

func among(err error, table []unix.Errno) bool {
	var errno unix.Errno
	return errors.As(err, &errno) && slices.Contains(table, errno)
}

// Exhausted reports whether err is due to a limit of the system or the shim.
func Exhausted(err error) bool { return among(err, exhausted) }

// NoProgram reports whether err, of a command that was to be started, says that there is
// no such program or none that can be executed. The open of another file, as /dev/null
// for a standard stream, can fail before.
func NoProgram(err error) bool {
	var path *fs.PathError
	return errors.As(err, new(*exec.Error)) ||
		errors.As(err, &path) && path.Op == "fork/exec" && (among(err, misnamed) || among(err, denied))
}

// Internalf returns an error of the class Internal, or ResourceExhausted if
// what it wraps has the error number of a limit.
func Internalf(format string, args ...any) error {
	return system(fmt.Errorf(format, args...))
}

// Pathf returns an error about a path that a client has named: of the class
// InvalidArgument if the path is at fault, PermissionDenied if the shim may not open it,
// else as Internalf's.
func Pathf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	switch {
	case among(err, misnamed):
		return With(errdefs.ErrInvalidArgument, err)
	case among(err, denied):
		return With(errdefs.ErrPermissionDenied, err)
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
