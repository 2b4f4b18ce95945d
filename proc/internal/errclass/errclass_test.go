// SPDX-License-Identifier: Apache-2.0

package errclass

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// F12: EMFILE while a stream is opened was called the client's fault.
func TestClasses(t *testing.T) {
	path := func(e unix.Errno) error { return &fs.PathError{Op: "open", Path: "/x", Err: e} }
	for _, tt := range []struct {
		err            error
		internal, path error
	}{
		{path(unix.EMFILE), errdefs.ErrResourceExhausted, errdefs.ErrResourceExhausted},
		{path(unix.ENFILE), errdefs.ErrResourceExhausted, errdefs.ErrResourceExhausted},
		{os.NewSyscallError("fork/exec", unix.EAGAIN), errdefs.ErrResourceExhausted, errdefs.ErrResourceExhausted},
		{unix.ENOMEM, errdefs.ErrResourceExhausted, errdefs.ErrResourceExhausted},
		{path(unix.ENOSPC), errdefs.ErrResourceExhausted, errdefs.ErrResourceExhausted},
		{path(unix.EDQUOT), errdefs.ErrResourceExhausted, errdefs.ErrResourceExhausted},
		{path(unix.ENOENT), errdefs.ErrInternal, errdefs.ErrInvalidArgument},
		{path(unix.EISDIR), errdefs.ErrInternal, errdefs.ErrInvalidArgument},
		{path(unix.EACCES), errdefs.ErrInternal, errdefs.ErrInvalidArgument},
		{path(unix.EIO), errdefs.ErrInternal, errdefs.ErrInternal},
		{io.ErrUnexpectedEOF, errdefs.ErrInternal, errdefs.ErrInternal},
	} {
		for name, pair := range map[string][2]error{
			"Internalf": {Internalf("do: %w", tt.err), tt.internal},
			"Pathf":     {Pathf("do: %w", tt.err), tt.path},
		} {
			got, want := pair[0], pair[1]
			if !errors.Is(got, want) || !errors.Is(got, tt.err) || got.Error() != "do: "+tt.err.Error() {
				t.Errorf("%s of %v: %#v, want the class %v", name, tt.err, got, want)
			}
		}
	}
	if !errdefs.IsInvalidArgument(Invalidf("no %s", "such")) {
		t.Error("Invalidf is not InvalidArgument")
	}
}
