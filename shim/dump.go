// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	// StackDir is where stack dumps go unless told otherwise. Its mode is 0700.
	StackDir = "/run/containerd-shim/stacks"
	// keepDumps is how many dumps of one shim are kept.
	keepDumps = 10
	// maxDump bounds one dump; it is some ten thousand goroutines.
	maxDump = 64 << 20
	// dumpEnd is the last line of a dump that is complete.
	dumpEnd = "# end of dump\n"
)

// Dumper writes the stacks of all goroutines into files. It takes no lock of
// the shim and does not log, so it works when nothing else does.
type Dumper struct {
	// Dir is made if need be.
	Dir string
	// Namespace and ID name the container.
	Namespace, ID string
	// Version is told in the header.
	Version string

	seq int
}

// Dump writes one file and returns its path, also with an error when only what
// is to be removed could not be. The file appears complete or not
// at all, with mode 0600. It is not safe for concurrent use: one goroutine
// dumps.
func (d *Dumper) Dump() (string, error) {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return "", fmt.Errorf("stack dump: %w", err)
	}
	d.seq++
	now := time.Now().UTC()
	name := fmt.Sprintf("%s%s.%d.stacks", d.prefix(), now.Format(dumpTime), d.seq)
	var b bytes.Buffer
	fmt.Fprintf(&b, "program: containerd-shim %s (%s)\npid: %d\nnamespace: %s\nid: %s\ntime: %s\ngoroutines: %d\n\n",
		d.Version, runtime.Version(), os.Getpid(), d.Namespace, d.ID, now.Format(time.RFC3339Nano), runtime.NumGoroutine())
	b.Write(stacks())
	b.WriteString("\n" + dumpEnd)
	path := filepath.Join(d.Dir, name)
	if err := writeAside(path, b.Bytes()); err != nil {
		return "", fmt.Errorf("stack dump: %w", err)
	}
	return path, d.prune(name)
}

// prefix begins the name of every dump of this shim, and of no other's.
func (d *Dumper) prefix() string {
	return fmt.Sprintf("%s.%s.%d.", fileName(d.Namespace), fileName(d.ID), os.Getpid())
}

// fileName makes a part of a file name of an identifier.
func fileName(s string) string {
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

// stacks returns the stacks of all goroutines.
func stacks() []byte {
	for size := 256 << 10; ; size *= 2 {
		buf := make([]byte, size)
		n := runtime.Stack(buf, true)
		if n < size || size >= maxDump {
			return buf[:n]
		}
	}
}

// writeAside writes data to a new hidden file beside path and renames it.
func writeAside(path string, data []byte) (err error) {
	aside := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	f, err := os.OpenFile(aside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(aside) // what a full disk has left of it
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(aside, path)
}

// prune removes the oldest dumps of this shim, and what tidy does. Names sort by
// time, so a clock that was set back would make the newest one the oldest: it
// is kept by name.
func (d *Dumper) prune(newest string) error {
	entries, err := os.ReadDir(d.Dir)
	if err != nil {
		return fmt.Errorf("stack dump: %w", err)
	}
	var mine []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), d.prefix()) && e.Name() != newest {
			mine = append(mine, e.Name())
		}
	}
	err = d.tidy(entries, time.Now())
	slices.Sort(mine)
	for len(mine) >= keepDumps {
		if e := os.Remove(filepath.Join(d.Dir, mine[0])); !errors.Is(e, fs.ErrNotExist) { // somebody else may tidy up
			err = errors.Join(err, e)
		}
		mine = mine[1:]
	}
	return err
}
