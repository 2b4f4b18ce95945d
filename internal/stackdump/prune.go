// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/internal/atomicfile"
)

// keepDumps is how many dumps of one shim are kept in a directory.
const keepDumps = 10

// Limits on the dumps of shims that have ended: an operator may want to read them
// afterwards, but /run is memory.
const (
	keepDeadFor   = 14 * 24 * time.Hour
	keepDead      = 200
	keepDeadBytes = 64 << 20
)

// prune removes the oldest dumps of this shim, and stale ones of others. Names
// sort by time, so a clock that was set back would make the newest one the
// oldest: it is kept by name.
func (w *Writer) prune(dir, newest string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	prefix := FilePrefix(w.namespace, w.id, os.Getpid())
	var mine []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && e.Name() != newest {
			mine = append(mine, e.Name())
		}
	}
	err = removeStale(dir, entries, time.Now())
	slices.Sort(mine)
	for len(mine) >= keepDumps {
		err = errors.Join(err, remove(dir, mine[0]))
		mine = mine[1:]
	}
	return err
}

// remove removes a file. Somebody else may have done it.
func remove(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// staleDump is a dump whose shim has ended.
type staleDump struct {
	name string
	size int64
	at   time.Time
	half bool // its shim died while it wrote
}

// removeStale removes dumps of shims that have ended: those that are old, and
// the oldest of too many. This happens whenever a dump is written, so they cannot
// pile up.
//
// A shim counts as alive while any process has its pid, so nothing that belongs to
// a living shim is ever removed, not even the file that it is writing; that
// another process has got the pid of a dead shim only keeps its dumps longer.
// Other files are left alone. Several shims may do this at once.
func removeStale(dir string, entries []os.DirEntry, now time.Time) error {
	var stale []staleDump
	for _, e := range entries {
		name, half := atomicfile.Unfinished(e.Name())
		if !half {
			name = e.Name()
		}
		pid, ok := filePid(name)
		if !ok || !e.Type().IsRegular() || unix.Kill(pid, 0) != unix.ESRCH {
			continue
		}
		st, err := e.Info()
		if err != nil {
			continue // another shim was faster
		}
		stale = append(stale, staleDump{e.Name(), st.Size(), st.ModTime(), half})
	}
	slices.SortFunc(stale, func(a, b staleDump) int {
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.name, a.name)) // the newest first
	})
	var bytes int64
	var failed error
	for i, d := range stale {
		bytes += d.size
		if !d.half && i < keepDead && bytes <= keepDeadBytes && now.Sub(d.at) <= keepDeadFor {
			continue
		}
		bytes -= d.size
		failed = errors.Join(failed, remove(dir, d.name))
	}
	return failed
}
