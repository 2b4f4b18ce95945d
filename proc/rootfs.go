// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"path/filepath"

	"github.com/containerd/containerd/mount"
)

// rootfs is the container's root file system as far as the shim mounts it:
// ctr and CRI send mounts, dockerd mounts by itself and sends none.
type rootfs struct {
	path   string
	mounts []mount.Mount
}

func newRootfs(bundle string, mounts []mount.Mount) *rootfs {
	return &rootfs{path: filepath.Join(bundle, "rootfs"), mounts: mounts}
}

// mount mounts everything, or nothing. A mount's target (sent by containerd
// since 1.7.0) is resolved inside the rootfs, symbolic links included.
func (r *rootfs) mount() error {
	for i := range r.mounts {
		if err := r.mounts[i].Mount(r.path); err != nil {
			return errors.Join(internalf("mount rootfs: %w", err), r.unmount())
		}
	}
	return nil
}

// unmount undoes mount, also what the container mounted below it. containerd
// removes the bundle next, and would remove what is still mounted there. It
// may be repeated.
func (r *rootfs) unmount() error {
	if len(r.mounts) == 0 {
		return nil // not ours
	}
	if err := mount.UnmountRecursive(r.path, 0); err != nil {
		return internalf("unmount rootfs: %w", err)
	}
	return nil
}
