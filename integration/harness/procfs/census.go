// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Census is what one process holds: the shim under test, nobody else.
type Census struct {
	Fds     []string // targets of its descriptors, without what the Go runtime keeps for itself
	Threads int
	Zombies []Process // its children that are dead and not reaped
	Living  []Process // its other children
}

// Count takes the census of pid; all is empty if there is no such process.
func Count(pid int) Census {
	var c Census
	if p, ok := Read(pid); ok {
		c.Threads = p.Threads
	}
	for _, p := range Children(pid) {
		if p.Reapable() {
			c.Zombies = append(c.Zombies, p)
		} else {
			c.Living = append(c.Living, p)
		}
	}
	for _, fd := range fds(File(pid, "fd")) {
		// Go's os/exec keeps a pidfd until its finalizer runs when somebody
		// else has reaped the child: an artefact of the toolchain, not a leak
		// of the shim.
		if fd.target != "anon_inode:[pidfd]" {
			c.Fds = append(c.Fds, fd.target)
		}
	}
	return c
}

type fd struct {
	number int
	target string
}

// fds lists the descriptors in a directory of /proc. cgroup files are left out:
// the Go runtime reads its limits in them.
func fds(dir string) []fd {
	var out []fd
	for _, n := range numbers(dir) {
		target, err := os.Readlink(filepath.Join(dir, strconv.Itoa(n)))
		if err == nil && !strings.HasPrefix(target, "/sys/fs/cgroup/") {
			out = append(out, fd{n, target})
		}
	}
	return out
}

// FdsLike counts the descriptors whose target contains piece.
func (c Census) FdsLike(piece string) int {
	n := 0
	for _, t := range c.Fds {
		if strings.Contains(t, piece) {
			n++
		}
	}
	return n
}

// Inherited lists, as "NUMBER TARGET", the descriptors above stderr that this
// process's parent has left open. Those that the Go runtime has opened for
// itself (epoll, eventfd), and the listing's own directory, are left out.
func Inherited() []string {
	var out []string
	for _, fd := range fds("/proc/self/fd") {
		if fd.number <= 2 || fd.target == "anon_inode:[eventpoll]" || fd.target == "anon_inode:[eventfd]" {
			continue
		}
		if own, _ := filepath.Match("/proc/*/fd", fd.target); !own {
			out = append(out, strconv.Itoa(fd.number)+" "+fd.target)
		}
	}
	return out
}

// Own lists this process's descriptors.
func Own() []int { return numbers("/proc/self/fd") }

// MountsUnder lists the mount points at or below dir, innermost last.
func MountsUnder(dir string) []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			point := unescape(fields[4])
			if point == dir || strings.HasPrefix(point, dir+"/") {
				out = append(out, point)
			}
		}
	}
	return out
}

// unescape undoes the octal escapes of mountinfo for space, tab, newline and
// backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
