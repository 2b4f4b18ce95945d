// SPDX-License-Identifier: Apache-2.0

// Package sweep ends and removes what a case has left on the host, and nothing else.
// It recognises it in five ways:
//   - A process's environment is readable in /proc/PID/environ by root, is
//     inherited by fork and exec, and is not changed by later setenv(3) calls:
//     the variable Mark names the case.
//   - runc gives a container its own environment and its `runc init` none: these
//     are found by the cgroup of the case.
//   - Loggers, whose environment is the shim's, run the run's own helper.
//   - The sockets of v2 shims, which choose their place themselves, are noted by Also.
//   - Everything else is a file, a mount or a FIFO below the case's directory.
package sweep

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// Root holds one directory for each running harness, named after its pid and
// start time; every case has a directory in it. It is short, because unix
// socket addresses of at most 106 bytes are made below it.
const Root = "/run/shimverify"

// Mark is the environment variable that names the case a process belongs to.
const Mark = "SHIMVERIFY_CASE"

// patience bounds how long a sweep waits for killed processes to be gone: hundreds of
// them on a host that several floods keep busy take more than ten seconds.
const patience = time.Minute

// Begin removes what dead harnesses have left, and makes the directory of this
// one, which Clean removes.
func Begin() (dir string, err error) {
	if err := Abandoned(); err != nil {
		return "", fmt.Errorf("remove what an earlier run left: %w", err)
	}
	me, ok := procfs.Read(os.Getpid())
	if !ok {
		return "", errors.New("read /proc/self: is /proc mounted?")
	}
	dir = filepath.Join(Root, strconv.Itoa(me.Pid)+"-"+strconv.FormatUint(me.StartTime, 10))
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", err
	}
	return dir, executable(dir)
}

// executable mounts a file system on the directory if that of /run is mounted noexec, as some
// distributions do: the run's programs and root file systems are in it.
func executable(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if fs.Flags&unix.ST_NOEXEC == 0 {
		return nil
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0711"); err != nil {
		return &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	return nil
}

// Cgroup is the cgroup of a case's containers, below each hierarchy's root: the
// cases of one run are in one cgroup, as their directories are.
func Cgroup(dir string) string { return "shimverify-" + strings.TrimPrefix(dir, Root+"/") }

// marked reports whether the process was started with the mark of dir, or of a
// directory below it.
func marked(pid int, dir string) bool {
	value, ok := procfs.Env(pid, Mark)
	return ok && below(value, dir)
}

// below reports whether path is dir or in it.
func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// Clean kills every process that belongs to the case directory dir or one
// below it, unmounts what is mounted there, and removes the directory and the
// cgroups. It touches nothing else. What is made while it runs, by a process
// that it has not seen yet, is removed as well: it goes on until nothing is left.
func Clean(dir string) error {
	if !strings.HasPrefix(dir, Root+"/") {
		return fmt.Errorf("sweep %s: not below %s", dir, Root)
	}
	var err error
	if late := wait.For(patience, dir+" is gone", func() bool {
		victims := Owned(dir)
		for _, p := range victims {
			_ = p.Signal(unix.SIGKILL) // it may be gone: the next look tells
		}
		Thaw(cgroups(dir)...)
		if len(victims) > 0 {
			err = fmt.Errorf("processes %v live on", pids(victims))
			return false
		}
		err = remove(dir)
		return err == nil
	}); late != nil {
		return errors.Join(late, err)
	}
	return nil
}

// remove takes away what no process uses any more. It waits for none: one that was forked
// since they were listed has to be ended first.
func remove(dir string) error {
	errs := []error{Unmount(dir), removeSockets(dir)}
	for _, cg := range cgroups(dir) {
		errs = append(errs, removeCgroup(cg))
	}
	return errors.Join(append(errs, os.RemoveAll(dir))...)
}

// also begins the names of the links that Also makes.
const also = "also-"

// Also has Clean of dir, or of a directory above it, remove the socket at path, which is
// elsewhere.
func Also(dir, path string) error {
	err := os.Symlink(path, filepath.Join(dir, also+filepath.Base(path)))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func removeSockets(dir string) error {
	own, _ := filepath.Glob(filepath.Join(dir, also+"*")) // the patterns are right
	below, _ := filepath.Glob(filepath.Join(dir, "*", also+"*"))
	var errs []error
	for _, link := range append(own, below...) {
		info, err := os.Stat(link)
		if err != nil || info.Mode().Type() != fs.ModeSocket {
			continue // the shim has removed it
		}
		path, err := os.Readlink(link)
		if err == nil {
			err = os.Remove(path)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func pids(all []procfs.Process) (pids []int) {
	for _, p := range all {
		pids = append(pids, p.Pid)
	}
	return pids
}

// Owned lists the living processes of dir: those that carry its mark, those in
// its cgroups, those that run the helper of its run in a directory of it
// (loggers, whose environment the shim makes), and `runc init` processes,
// which have none of these before runc has moved them, below the former.
func Owned(dir string) []procfs.Process {
	all := procfs.All()
	mine := map[int]bool{}
	for _, p := range all {
		if !p.Dead() && (marked(p.Pid, dir) || helps(p.Pid, dir) || procfs.InCgroup(p.Pid, Cgroup(dir))) {
			mine[p.Pid] = true
		}
	}
	for range all { // until no more descendants are found, at most once each
		grown := false
		for _, p := range all {
			if mine[p.Parent] && !mine[p.Pid] && !p.Dead() {
				mine[p.Pid], grown = true, true
			}
		}
		if !grown {
			break
		}
	}
	delete(mine, os.Getpid())
	return slices.DeleteFunc(all, func(p procfs.Process) bool { return !mine[p.Pid] })
}

// helps reports whether pid runs the copy of the helper that the run of dir has
// made, in dir.
func helps(pid int, dir string) bool {
	exe, err := os.Readlink(procfs.File(pid, "exe"))
	run, _, _ := strings.Cut(strings.TrimPrefix(dir, Root+"/"), "/")
	if err != nil || !below(exe, filepath.Join(Root, run)) {
		return false
	}
	if dir == filepath.Join(Root, run) {
		return true
	}
	cwd, err := os.Readlink(procfs.File(pid, "cwd"))
	return err == nil && below(cwd, dir)
}

// cgroups finds the case's cgroup in every hierarchy: one directory deep for
// version 1, at the root for version 2.
func cgroups(dir string) []string {
	name := Cgroup(dir)
	v1, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", name))
	v2, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", name))
	return append(v1, v2...)
}

// Thaw lets the frozen processes of a cgroup, and of those in it, take their SIGKILL.
func Thaw(cgs ...string) {
	for _, cg := range cgs {
		_ = filepath.WalkDir(cg, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "freezer.state" {
				_ = os.WriteFile(path, []byte("THAWED"), 0)
			}
			if err == nil && d.Name() == "cgroup.freeze" {
				_ = os.WriteFile(path, []byte("0"), 0)
			}
			return nil
		})
	}
}

// Unmount detaches what is mounted at or below dir.
func Unmount(dir string) error {
	var errs []error
	mounts := procfs.MountsUnder(dir)
	slices.Reverse(mounts)
	for _, m := range mounts {
		errs = append(errs, unix.Unmount(m, unix.MNT_DETACH))
	}
	return errors.Join(errs...)
}

// RemoveCgroup removes the cgroup at a path below /sys/fs/cgroup and those in
// it, once their last processes are reaped.
func RemoveCgroup(cg string) error {
	return wait.For(patience, "cgroup "+cg+" is removed", func() bool { return removeCgroup(cg) == nil })
}

// removeCgroup is one attempt.
func removeCgroup(cg string) error {
	var dirs []string
	_ = filepath.WalkDir(cg, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs)
	var err error
	for _, d := range dirs {
		err = unix.Rmdir(d) // the last is cg itself
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return os.NewSyscallError("rmdir", err)
}

// Abandoned removes what harnesses left that are no longer alive: their
// directory's name holds the pid and start time of its owner. A lock keeps
// harnesses that start at the same time from removing the same things.
func Abandoned() error {
	root, err := os.Open(Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close() // and so unlocks
	if err := unix.Flock(int(root.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", Root, err)
	}
	entries, err := root.ReadDir(-1)
	var errs []error
	for _, e := range entries {
		var pid int
		var start uint64
		if _, err := fmt.Sscanf(e.Name(), "%d-%d", &pid, &start); err != nil {
			continue // not made by this package
		}
		if p, ok := procfs.Read(pid); ok && p.StartTime == start && !p.Dead() {
			continue
		}
		errs = append(errs, Clean(filepath.Join(Root, e.Name())))
	}
	return errors.Join(append(errs, err)...)
}
