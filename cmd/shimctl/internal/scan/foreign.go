// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// foreign reports whether a process, whose status was read, is of another user than root, if
// this one is root's, or of another pid namespace than this one, or has another root directory
// than both this one and the host's first process. What may not be read is not known to be:
// nothing can be done to that process either.
func (t *tree) foreign(s *Shim) bool {
	if os.Geteuid() == 0 && s.UID != 0 {
		return true
	}
	own, err := os.Readlink(filepath.Join(t.root, "self", "ns", "pid"))
	its, itsErr := os.Readlink(t.file(s.PID, "ns/pid"))
	if err != nil || itsErr != nil {
		return false
	}
	if own != its {
		return true
	}
	root, ok := identity(t.file(s.PID, "root"))
	if !ok {
		return false
	}
	known := false
	for _, of := range []string{"1", "self"} {
		if id, ok := identity(filepath.Join(t.root, of, "root")); ok {
			if id == root {
				return false
			}
			known = true
		}
	}
	return known
}

func (t *tree) foreignPid(pid int) bool {
	s := Shim{PID: pid}
	t.status(&s)
	return t.foreign(&s)
}

// identity is the device and the inode of a directory. Its file system is not asked, as
// stat(2) would: it may be one whose server does not answer.
func identity(dir string) (id [3]uint64, ok bool) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
	if err == unix.ENOSYS { // before Linux 4.11
		var st unix.Stat_t
		err = unix.Stat(dir, &st)
		return [3]uint64{uint64(unix.Major(st.Dev)), uint64(unix.Minor(st.Dev)), st.Ino}, err == nil
	}
	return [3]uint64{uint64(st.Dev_major), uint64(st.Dev_minor), st.Ino}, err == nil
}

// FileType returns the type of a file, S_IFMT of stat(2). As with identity its file system is
// not asked.
func FileType(path string) (uint32, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	if err == unix.ENOSYS { // before Linux 4.11
		var st unix.Stat_t
		err = unix.Stat(path, &st)
		return st.Mode & unix.S_IFMT, err
	}
	return uint32(st.Mode) & unix.S_IFMT, err
}

// foreignNames reads namespace and id where a daemon has put them, into the path of the bundle,
// the working directory. A Foreign shim's arguments are not read: the kernel would take them
// from its memory, that may be a file's whose server does not answer, and then wait in a way
// that no signal ends. Nor is any file of its directory.
func (t *tree) foreignNames(s *Shim, e *entry) bool {
	if !named(e, s.Exe) {
		return false
	}
	bundle, err := os.Readlink(t.file(s.PID, "cwd"))
	if err != nil {
		return false
	}
	if parent := t.entries[e.ppid]; parent != nil && parent.Comm == e.Comm {
		if its, err := os.Readlink(t.file(e.ppid, "cwd")); err == nil && its == bundle { // between fork and exec of a runc
			return false
		}
	}
	bundle = strings.TrimSuffix(bundle, " (deleted)")
	namespace := filepath.Dir(bundle)
	runtime, ok := strings.CutPrefix(filepath.Base(filepath.Dir(namespace)), "io.containerd.runtime.")
	s.Namespace, s.ID, s.Kind = filepath.Base(namespace), filepath.Base(bundle), V2
	if runtime == "v1.linux" {
		s.Kind = V1
	}
	return ok && identifier(s.Namespace) && identifier(s.ID)
}
