// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/internal/atomicfile"
)

// maxDump bounds one dump; it is some ten thousand goroutines.
const maxDump = 64 << 20

// Writer writes the stacks of all goroutines of its process into files. It takes
// no lock and does not log, so it works when nothing else does. It is not safe
// for concurrent use.
type Writer struct {
	dir, spare             string
	namespace, id, version string
	limit                  int
	n                      int // of the last dump
	reserve                int // a descriptor to give up when there is none left; -1 for none
}

// NewWriter returns a Writer of dumps in dir, which is created if need be. If dir
// cannot be written, they go to spare, which must exist unless it is empty. The
// files are named after namespace and id, and say version. The Writer keeps one
// descriptor open for the life of the process.
func NewWriter(dir, spare, namespace, id, version string) *Writer {
	w := &Writer{dir: dir, spare: spare, namespace: namespace, id: id, version: version, limit: maxDump, reserve: -1}
	w.holdReserve()
	return w
}

// Take returns a dump: a header of "key: value" lines, an empty line, the stacks
// of all goroutines, and a last line that says whether they are all there.
func (w *Writer) Take() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "program: containerd-shim %s (%s)\npid: %d\nnamespace: %s\nid: %s\ntime: %s\ngoroutines: %d\n\n",
		w.version, runtime.Version(), os.Getpid(), w.namespace, w.id, time.Now().UTC().Format(time.RFC3339Nano), runtime.NumGoroutine())
	text, whole := stacks(w.limit)
	b.Write(text)
	if whole {
		b.WriteString("\n" + FileEnd + "\n")
	} else {
		fmt.Fprintf(&b, "\n%s%d bytes\n", cutEnd, len(text))
	}
	return b.Bytes()
}

// stacks returns the stacks of all goroutines, and whether they fit into limit.
func stacks(limit int) (text []byte, whole bool) {
	for size := min(256<<10, limit); ; size = min(2*size, limit) {
		buf := make([]byte, size)
		n := runtime.Stack(buf, true)
		if n < size || size == limit {
			return buf[:n], n < size
		}
	}
}

// Save writes a dump into one file and returns its path. The file appears
// complete or not at all, with mode 0600. An error with a path says what else
// went wrong: the first directory did not take it, or what is to be removed is
// still there. Without a path no directory took it.
func (w *Writer) Save(text []byte) (path string, err error) {
	defer w.holdReserve()
	w.n++
	name := FileName(w.namespace, w.id, os.Getpid(), time.Now(), w.n)
	for _, dir := range []string{w.dir, w.spare} {
		if dir == "" {
			continue
		}
		p, e := w.saveIn(dir, name, text)
		if p == "" && (errors.Is(e, unix.EMFILE) || errors.Is(e, unix.ENFILE)) && w.dropReserve() {
			p, e = w.saveIn(dir, name, text)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("stack dump: %w", e))
		}
		if p != "" {
			return p, err
		}
	}
	return "", err
}

func (w *Writer) saveIn(dir, name string, text []byte) (string, error) {
	if dir == w.dir {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
	}
	path := filepath.Join(dir, name)
	if err := atomicfile.Write(path, text, 0o600); err != nil {
		return "", err
	}
	return path, w.prune(dir, name)
}

// holdReserve opens the descriptor that Save gives up where the process, or the
// host, has none left. Another goroutine may be faster then: there is still the log.
func (w *Writer) holdReserve() {
	if w.reserve >= 0 {
		return
	}
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1 // tried again with the next dump
	}
	w.reserve = fd
}

// dropReserve reports whether there was one.
func (w *Writer) dropReserve() bool {
	if w.reserve < 0 {
		return false
	}
	_ = unix.Close(w.reserve)
	w.reserve = -1
	return true
}
