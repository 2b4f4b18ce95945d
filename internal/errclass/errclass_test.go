// SPDX-License-Identifier: Apache-2.0

package errclass

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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
		{path(unix.EACCES), errdefs.ErrInternal, errdefs.ErrPermissionDenied},
		{path(unix.EPERM), errdefs.ErrInternal, errdefs.ErrPermissionDenied},
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

// "open /dev/null: permission denied" is no sign that the host has no runtime; each open of
// a shim was made to fail with it.
func TestNoProgram(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path, dir string
		want      bool
	}{
		"in PATH":        {"no-such-program", "", true},
		"by path":        {filepath.Join(dir, "none"), "", true},
		"not executable": {file, "", true},
		"a directory":    {dir, "", true},
		"elsewhere":      {"/bin/true", filepath.Join(dir, "none"), false},
	} {
		cmd := exec.Command(c.path)
		cmd.Dir = c.dir
		if err := cmd.Run(); err == nil || NoProgram(err) != c.want {
			t.Errorf("%s: %v, NoProgram: %v", name, err, !c.want)
		}
	}
	if NoProgram(&fs.PathError{Op: "open", Path: os.DevNull, Err: unix.EACCES}) {
		t.Error("the open of /dev/null was taken for the program's")
	}
}
