// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/sweep"
)

// enter makes a root file system for a daemon and a runtime that are not the host's,
// and makes it that of this process. dir is what fetch has written. The process must
// have a mount namespace of its own: all mounts end with it, and the host sees none of
// them. programs has the file that is to be at each path of the new root.
//
// It is pivot_root(2) and not chroot(2), because runc, and CRIU even more so, look at
// the mounts below the root, which in a chroot are not those that the kernel shows.
func enter(dir string, programs map[string]string) error {
	// Without this the mounts below would be the host's too (mount_namespaces(7)).
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	layers := filepath.Join(dir, "layers") // an empty directory to mount at
	if err := os.MkdirAll(layers, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", layers, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", layers, err)
	}
	root, upper, work := filepath.Join(layers, "root"), filepath.Join(layers, "upper"), filepath.Join(layers, "work")
	for _, d := range []string{root, upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", filepath.Join(dir, "base"), upper, work)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	for _, d := range []string{"/proc", "/sys", "/dev", "/run", "/tmp"} {
		if err := unix.Mount(d, filepath.Join(root, d), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s: %w", d, err)
		}
	}
	if err := bareUnified(root); err != nil {
		return err
	}
	for to, from := range programs {
		if err := install(filepath.Join(root, to), from); err != nil {
			return err
		}
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	// The old root ends up on top of the new one, and is taken away (pivot_root(2)).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return unix.Chdir("/")
}

// unified is where systemd mounts cgroup v2 beside v1.
const unified = "/sys/fs/cgroup/unified"

// bareGroup is the cgroup that bareUnified shows, where there is cgroup v2 at all. It is
// named after the process that makes and removes it, which is the parent of the pair's.
func bareGroup(pid int) string { return filepath.Join(unified, fmt.Sprint("matrix-", pid)) }

// bareUnified shows a cgroup without controllers as the root of cgroup v2. crun refuses
// a host that has v1 mounted and a controller in v2, as this one may have, and systemd's
// hosts with v1 have not.
func bareUnified(root string) error {
	group := bareGroup(os.Getppid())
	if _, err := os.Stat(group); err != nil {
		return nil // no cgroup v2
	}
	if err := unix.Mount(group, filepath.Join(root, unified), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", group, err)
	}
	return nil
}

// removeHidden removes what CRIU, which does not look where bareUnified has mounted, has
// made for the containers of a rig at the root of cgroup v2 to put them back there. The
// runtime does not see it, and does not remove it.
func removeHidden(rig string) error {
	if _, err := os.Stat(unified); err != nil {
		return nil // no cgroup v2
	}
	dir, err := os.MkdirTemp("", "matrix-unified")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount cgroup v2: %w", err)
	}
	return errors.Join(sweep.RemoveCgroup(filepath.Join(dir, rig)), unix.Unmount(dir, 0))
}

// install copies a program to a path at which there may be another.
func install(to, from string) error {
	program, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.WriteFile(to, program, 0o755)
}
