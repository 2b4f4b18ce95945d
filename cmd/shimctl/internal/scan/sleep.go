// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
)

// Sleep reports what holds a process up besides itself: disk, whether one of
// its threads is in uninterruptible sleep; frozen, whether its cgroup is.
// Since Linux 6.1 a task frozen by cgroup v1 shows as in disk sleep, too.
func Sleep(root string, pid int) (disk, frozen bool) {
	t := &tree{root: root}
	stats, _ := filepath.Glob(t.file(pid, "task/*/stat"))
	for _, name := range stats {
		b, _ := os.ReadFile(name)
		if end := bytes.LastIndexByte(b, ')'); end >= 0 && bytes.HasPrefix(b[end:], []byte(") D")) {
			disk = true
		}
	}
	return disk, t.frozen(pid, "/sys/fs/cgroup")
}

// frozen reads the state of the process's own cgroups, which in both versions
// includes what is done to an ancestor. A pod does not see them below its own
// /sys, so they are read below the root of the host's first process. A frozen
// task's wait channel would tell only up to Linux 6.0, and not in all states.
func (t *tree) frozen(pid int, mount string) bool {
	wchan, _ := os.ReadFile(t.file(pid, "wchan"))
	if bytes.Contains(wchan, []byte("refrigerator")) || bytes.Contains(wchan, []byte("freezer")) {
		return true
	}
	groups, _ := os.ReadFile(t.file(pid, "cgroup"))
	for line := range strings.Lines(string(groups)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // number, controllers, path
		if len(f) != 3 {
			continue
		}
		for _, mount := range []string{mount, filepath.Join(t.root, "1/root", mount)} {
			switch f[1] {
			case "freezer":
				state, _ := os.ReadFile(filepath.Join(mount, "freezer", f[2], "freezer.state"))
				if bytes.HasPrefix(state, []byte("FR")) { // FROZEN, FREEZING
					return true
				}
			case "": // version 2, alone or beside version 1
				for _, sub := range []string{"", "unified"} {
					events, _ := os.ReadFile(filepath.Join(mount, sub, f[2], "cgroup.events"))
					if bytes.Contains(events, []byte("frozen 1")) {
						return true
					}
				}
			}
		}
	}
	return false
}
