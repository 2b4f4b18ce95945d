// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideEnv marks the process that has the namespace.
const insideEnv = "PACKAGING_TEST_LIVE_INSIDE"

// private reports whether this process has a mount namespace of its own. If it has not,
// private runs this program again in one and returns its exit status. os/exec makes the
// mounts of an unshared namespace private, so that none is seen outside.
func private() (inside bool, status int, err error) {
	if os.Getenv(insideEnv) != "" {
		mine, err := os.Readlink("/proc/self/ns/mnt")
		if err != nil {
			return false, 0, err
		}
		parents, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
		if err != nil {
			return false, 0, err
		}
		if mine == parents {
			return false, 0, fmt.Errorf("%s is set, but this is not a mount namespace of its own", insideEnv)
		}
		return true, 0, nil
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return false, max(exit.ExitCode(), 1), nil
	}
	return false, 0, err
}

// overlays makes changes below the directories go to memory. It also hides systemd, if
// the host runs it, so that no maintainer script asks it for anything.
func overlays(dirs ...string) error {
	for _, d := range []string{"/bin", "/lib", "/sbin"} {
		if info, err := os.Lstat(d); err != nil || info.Mode()&os.ModeSymlink == 0 {
			return fmt.Errorf("%s is not a link below /usr: it would not be covered", d)
		}
	}
	base, err := os.MkdirTemp("/run", "live")
	if err != nil {
		return err
	}
	// Only the empty directory is seen outside the namespace.
	defer os.Remove(base)
	if err := unix.Mount("live", base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			continue // nothing there to protect
		}
		name := strings.ReplaceAll(strings.Trim(dir, "/"), "/", "-")
		upper, work := filepath.Join(base, name), filepath.Join(base, name+".work")
		for _, d := range []string{upper, work} {
			if err := os.Mkdir(d, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount("live", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)); err != nil {
			return fmt.Errorf("mount overlay on %s: %w", dir, err)
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
			return fmt.Errorf("%s is not an overlay: type %#x, %w", dir, fs.Type, errors.Join(err))
		}
	}
	// Detached, because the overlays still use it; then base can be removed.
	if err := unix.Unmount(base, unix.MNT_DETACH); err != nil {
		return err
	}
	if _, err := os.Stat("/run/systemd"); err == nil {
		if err := unix.Mount("live", "/run/systemd", "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("hide /run/systemd: %w", err)
		}
	}
	return nil
}
