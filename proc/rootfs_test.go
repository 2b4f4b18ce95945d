// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// B49: what the shim has not mounted it does not unmount, for dockerd mounts by
// itself and sends none; and a bundle without a rootfs is none of its business.
func TestRootfsOfOthers(t *testing.T) {
	r := newRootfs(t.TempDir(), nil)
	if err := r.unmount(); err != nil {
		t.Errorf("without a rootfs: %v", err)
	}
	if err := os.Mkdir(r.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", r.path, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(r.path, 0) }() // fails only if it is gone, which is told below
	mark := filepath.Join(r.path, "mark")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errorOr(r.mount(), r.unmount()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("somebody else's mount: %v", err)
	}
}
