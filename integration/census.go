// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
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

// Count takes the census of pid.
func Count(pid int) Census {
	var c Census
	if p, ok := ReadProcess(pid); ok {
		c.Threads = p.Threads
	}
	for _, p := range Children(pid) {
		// A thread-group leader that ended before its threads also shows
		// as Z, and cannot be reaped yet.
		if p.State == 'Z' && p.Threads <= 1 {
			c.Zombies = append(c.Zombies, p)
		} else {
			c.Living = append(c.Living, p)
		}
	}
	c.Fds = fdTargets(pid)
	return c
}

func fdTargets(pid int) []string {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		// Go's os/exec keeps a pidfd until its finalizer runs when somebody
		// else has reaped the child: an artefact of the toolchain, not a leak
		// of the shim.
		if target == "anon_inode:[pidfd]" || strings.HasPrefix(target, "/sys/fs/cgroup/") {
			continue
		}
		out = append(out, target)
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

// MountsUnder lists the mount points at or below dir, innermost last.
func MountsUnder(dir string) []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			out = append(out, point)
		}
	}
	return out
}

// unescapeMount undoes the octal escapes of mountinfo for space, tab, newline
// and backslash.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
