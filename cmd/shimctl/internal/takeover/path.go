// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// hostRoot is the root directory of a host, as a pod with the host's pids sees it.
const hostRoot = "/proc/1/root"

// maxLinks is how many symbolic links Linux follows on one path (path_resolution(7)).
const maxLinks = 40

// checkPath returns an error if anybody but root could put another file in the place of
// the one at path, which is below root: a directory or a symbolic link on the way to it is
// another user's, or a directory can be written by others. In one with the sticky bit they
// can only remove and rename what is theirs (inode(7)).
func checkPath(root, path string) error {
	at, rest, links := "/", strings.Split(path, "/"), 0
	for {
		info, err := os.Stat(root + at) // no link any more, apart from root itself
		if err != nil {
			return err
		}
		if len(rest) == 0 {
			return nil // the file
		}
		if !owned(info) || info.Mode()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
			return fmt.Errorf("%s can be written by others than root, who could replace %s", at, path)
		}
		name := rest[0]
		next := filepath.Join(at, name) // for "..", its parent
		rest = rest[1:]
		if info, err = os.Lstat(root + next); err != nil {
			return err
		}
		if next == "/" || info.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		if !owned(info) {
			return fmt.Errorf("%s is a symbolic link of another user than root, who could replace %s", next, path)
		}
		target, err := os.Readlink(root + next)
		if err != nil {
			return err
		}
		if links++; links > maxLinks {
			return fmt.Errorf("%s: %w", path, syscall.ELOOP)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
}

// owned reports whether the file is root's.
func owned(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0
}
