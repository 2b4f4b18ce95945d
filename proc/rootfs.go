// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"containerd-shim.v1/internal/errclass"

	"github.com/containerd/containerd/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const (
	// busyMount is how long to wait for a file system that is busy: a runtime or a
	// scanner may just be leaving it.
	busyMount = 2 * time.Second
	// busyTick is how often it is tried meanwhile.
	busyTick = 50 * time.Millisecond
)

// rootfs is the container's root file system as far as the shim mounts it:
// ctr and CRI send mounts, dockerd mounts by itself and sends none.
//
// After a Delete, and after a Create that failed, the daemon removes the
// bundle with all that is below it, also through a mount: into the writable
// layer of the container. So Delete does not succeed, and Create does not
// fail, with anything mounted there.
type rootfs struct {
	// path is the directory as the bundle names it until mount has resolved it:
	// mountinfo knows no symbolic links, and those of today may be others
	// tomorrow.
	path   string
	mounts []mount.Mount
	made   int                                           // how many may be mounted at path, on one another
	under  func(dir string) (points []string, err error) // mountsUnder, but for a test
}

func newRootfs(bundle string, mounts []mount.Mount) *rootfs {
	return &rootfs{path: filepath.Join(bundle, "rootfs"), mounts: mounts, under: mountsUnder}
}

// mount mounts everything, or nothing. A mount's target (sent by containerd
// since 1.7.0) is resolved inside the rootfs, symbolic links included.
func (r *rootfs) mount() error {
	path, err := filepath.Abs(r.path)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	switch {
	case err == nil:
		r.path = path
	case len(r.mounts) > 0: // without any the bundle needs no rootfs
		return internalf("mount rootfs: %w", err)
	}
	for i := range r.mounts {
		if r.mounts[i].Target == "" {
			r.made++ // also one that fails: a read-only bind is made by two calls
		}
		if err := r.mounts[i].Mount(r.path); err != nil {
			return errors.Join(internalf("mount rootfs: %w", err), r.detach())
		}
	}
	return nil
}

// unmount undoes mount, also what the container mounted below it, and fails if
// anything stays: a process that is in there, or the mount of somebody else
// where the shim made none. It may be repeated.
func (r *rootfs) unmount() error { return r.clear(0) }

// detach is unmount for a Create that has failed, after which the daemon calls no
// Delete: what is busy is detached from the bundle all the same, as containerd does
// after the death of a shim, and ends with its last user.
func (r *rootfs) detach() error {
	if err := r.clear(0); err == nil || len(r.mounts) == 0 {
		return err
	}
	err := r.clear(unix.MNT_DETACH)
	if err == nil {
		return nil
	}
	// The list of mounts cannot be had. With its own mounts goes what is below them.
	for range r.made {
		e := unix.Unmount(r.path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if e != nil && e != unix.EINVAL { // no mount, or none any more
			return errors.Join(err, &fs.PathError{Op: "unmount", Path: r.path, Err: e})
		}
	}
	if r.made == 0 {
		return err
	}
	return nil
}

func (r *rootfs) clear(flags int) error {
	ctx, cancel := context.WithTimeout(context.Background(), busyMount)
	defer cancel()
	for {
		points, err := errclass.WhileExhausted(ctx, func() ([]string, error) { return r.under(r.path) })
		if err != nil {
			return internalf("unmount rootfs: %w", err)
		}
		if len(points) == 0 {
			return nil
		}
		if len(r.mounts) == 0 {
			return internalf("the rootfs is not empty: %s is mounted, not by the shim", points[0])
		}
		progress, err := unmountEach(points, flags)
		switch {
		case progress:
		case errors.Is(err, unix.EBUSY) && ctx.Err() == nil:
			time.Sleep(busyTick)
		default:
			return internalf("unmount rootfs: %w", err)
		}
	}
}

// mountsUnder lists the mount points at and below dir, the deepest first. One
// that is mounted over several times is listed as often.
func mountsUnder(dir string) ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, err
	}
	var points []string
	for _, m := range mounts {
		points = append(points, m.Mountpoint)
	}
	slices.SortStableFunc(points, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return points, nil
}

// unmountEach tries each mount point once and reports whether any of them
// went. One that another mount hides can only go after that one.
func unmountEach(points []string, flags int) (progress bool, err error) {
	for _, p := range points {
		e := unix.Unmount(p, flags|unix.UMOUNT_NOFOLLOW)
		if e == nil {
			progress = true
		} else {
			err = errors.Join(err, &fs.PathError{Op: "unmount", Path: p, Err: e})
		}
	}
	return progress, err
}
