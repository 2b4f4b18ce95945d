// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// B50: processes are left to the kernel only in a pid namespace of their own.
func TestSharesPidNamespace(t *testing.T) {
	for config, want := range map[string]bool{
		`{"linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}}`:        false,
		`{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}`: true,
		`{"linux":{"namespaces":[{"type":"mount"}]}}`:                       true,
		`{}`: true,
		`{"linux":{"namespaces":[{"type":"pid"}]}`: true, // broken
		"": true, // there is none
	} {
		dir := t.TempDir()
		if config != "" {
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := sharesPidNamespace(dir); got != want {
			t.Errorf("%q: got %v, want %v", config, got, want)
		}
	}
}

// TestCheckBundle: a bundle that cannot be looked at is not the client's mistake.
func TestCheckBundle(t *testing.T) {
	dir := t.TempDir()
	file, bundle := filepath.Join(dir, "file"), filepath.Join(dir, "bundle")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Mkdir(bundle, 0o700), os.Chmod(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		bundle: nil, file: errdefs.ErrInvalidArgument, dir + "/missing": errdefs.ErrInvalidArgument, file + "/x": errdefs.ErrInvalidArgument,
	} {
		if err := CheckBundle(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	denied := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		if err := unix.Setfsuid(65534); err != nil {
			t.Error(err)
		}
		denied <- CheckBundle(bundle)
	}()
	if err := <-denied; !errdefs.IsPermissionDenied(err) || errdefs.IsInvalidArgument(err) {
		t.Errorf("not readable: %v", err)
	}
}
