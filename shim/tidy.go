// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What is kept of the dumps of shims that have ended: an operator reads them
// after the death, and /run is memory.
const (
	keepDeadFor   = 14 * 24 * time.Hour
	keepDead      = 200
	keepDeadBytes = 64 << 20
)

// dumpTime is how the time stands in a dump's name.
const dumpTime = "20060102T150405.000000000Z"

// dumpPid returns the pid in the name of a dump, or of one that is being
// written: [.]NAMESPACE.ID.PID.TIME.N.stacks. Namespace and id may hold dots.
func dumpPid(name string) (pid int, ok bool) {
	parts := strings.Split(name, ".")
	n := len(parts)
	if n < 7 || parts[n-1] != "stacks" {
		return 0, false
	}
	_, seqErr := strconv.ParseUint(parts[n-2], 10, 63)
	_, timeErr := time.Parse(dumpTime, parts[n-4]+"."+parts[n-3])
	p, err := strconv.ParseInt(parts[n-5], 10, 32) // a pid_t
	return int(p), seqErr == nil && timeErr == nil && err == nil && p > 0
}

// orphan is a dump whose shim has ended.
type orphan struct {
	name string
	size int64
	at   time.Time
}

// tidy removes dumps of shims that have ended: those that are old, and the
// oldest of too many. Each dump that is written does so; where none is written
// none can pile up.
//
// A shim is taken to live while any process has its pid, so nothing of a
// living shim's is ever removed, nor is the file that one is writing; a process
// that has the pid of an ended one only keeps its dumps for longer. Of what
// has another name, or is no regular file, nothing is touched. Several shims
// may tidy at once: what another has removed is gone, as wanted.
func (d *Dumper) tidy(entries []os.DirEntry, now time.Time) error {
	var dead []orphan
	for _, e := range entries {
		pid, ok := dumpPid(e.Name())
		if !ok || !e.Type().IsRegular() || unix.Kill(pid, 0) != unix.ESRCH {
			continue
		}
		st, err := e.Info()
		if err != nil {
			continue // another shim was faster
		}
		dead = append(dead, orphan{e.Name(), st.Size(), st.ModTime()})
	}
	slices.SortFunc(dead, func(a, b orphan) int {
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.name, a.name)) // the newest first
	})
	var bytes int64
	var failed error
	for i, o := range dead {
		bytes += o.size
		half := o.name[0] == '.' // its shim died while it wrote
		if !half && i < keepDead && bytes <= keepDeadBytes && now.Sub(o.at) <= keepDeadFor {
			continue
		}
		bytes -= o.size
		if err := os.Remove(filepath.Join(d.Dir, o.name)); !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
