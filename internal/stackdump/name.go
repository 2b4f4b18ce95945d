// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// DefaultDir is where the shim writes its dumps unless it is told otherwise.
const DefaultDir = "/run/containerd-shim/stacks"

// FileEnd is the last line of a file that has all goroutines; cutEnd begins the
// last line of one that was cut.
const (
	FileEnd = "# end of dump"
	cutEnd  = "# cut at "
)

// A file is named NAMESPACE.ID.PID.TIME.N.stacks.
const (
	nameTime = "20060102T150405.000000000Z" // UTC; names of one shim sort by it
	suffix   = ".stacks"
)

// FilePrefix begins the name of every dump of one shim, and of no other's.
func FilePrefix(namespace, id string, pid int) string {
	return fmt.Sprintf("%s.%s.%d.", namePart(namespace), namePart(id), pid)
}

// FileName is the name of a shim's n-th dump.
func FileName(namespace, id string, pid int, at time.Time, n int) string {
	return fmt.Sprintf("%s%s.%d%s", FilePrefix(namespace, id, pid), at.UTC().Format(nameTime), n, suffix)
}

// IsFile reports whether name is that of a whole dump with the prefix.
func IsFile(name, prefix string) bool {
	return strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix)
}

// filePid returns the pid in the name of a dump. Namespace and id may hold dots.
func filePid(name string) (pid int, ok bool) {
	parts := strings.Split(name, ".")
	n := len(parts)
	if n < 7 || "."+parts[n-1] != suffix {
		return 0, false
	}
	_, numberErr := strconv.ParseUint(parts[n-2], 10, 63)
	_, timeErr := time.Parse(nameTime, parts[n-4]+"."+parts[n-3])
	p, err := strconv.ParseInt(parts[n-5], 10, 32) // a pid_t
	return int(p), numberErr == nil && timeErr == nil && err == nil && p > 0
}

// namePart makes an identifier safe as a part of a file name.
func namePart(s string) string {
	if len(s) > 76 { // the most that containerd allows
		s = s[:76]
	}
	s = strings.Map(func(r rune) rune {
		if r == '/' || r < ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s
}
