// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"containerd-shim.v1/internal/errclass"
)

const pidFileTime = time.Minute

// readPidFile returns the pid that the runtime wrote, and when it did: at that
// moment the process was alive. The process is there, so the memory and the descriptor
// that this takes are waited for, at most for pidFileTime.
func readPidFile(ctx context.Context, path string) (int, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, pidFileTime)
	defer cancel()
	data, err := read(ctx, path)
	if err != nil {
		return 0, time.Time{}, internalf("the runtime's pid file: %w", err)
	}
	st, err := errclass.WhileExhausted(ctx, func() (fs.FileInfo, error) { return os.Stat(path) })
	if err != nil {
		return 0, time.Time{}, internalf("the runtime's pid file: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return 0, time.Time{}, internalf("the runtime's pid file %s holds no pid: %q", path, shorten(string(data)))
	}
	return pid, st.ModTime(), nil
}

// clearPidFile removes a pid file, and the file that runc and crun write first and
// then rename. A runtime that was killed in between leaves that behind, and the next
// one refuses to overwrite it.
func clearPidFile(path string) error {
	dir, name := filepath.Split(path)
	for _, p := range []string{path, filepath.Join(dir, "."+name)} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return internalf("remove an old pid file: %w", err)
		}
	}
	return nil
}

// CheckID refuses an id that cannot be the name of a file next to others.
func CheckID(id string) error {
	const most = 200 // leaves room for ".pid" and such in a name of 255 bytes
	switch {
	case id == "":
		return invalidf("an id is empty")
	case len(id) > most:
		return invalidf("id %.32s...: longer than %d characters", id, most)
	case id == "." || id == ".." || strings.ContainsAny(id, "/\x00\n"):
		return invalidf("id %q: not a plain file name", id)
	case strings.HasPrefix(id, "-"):
		return invalidf("id %q: the runtime would take it for a flag", id)
	case strings.HasPrefix(id, "."):
		return invalidf("id %q: begins with a dot", id) // containerd allows none; see execPidFile
	}
	return nil
}

// execPidFile is the pid file's name for an exec. Without the dots the one of an exec
// called "init" would be the container's own, which containerd reads after a
// restart, and that of "shim" would be containerd's since 1.3.0. There are two dots
// because runtimes put one before the name of a file that is not finished.
func execPidFile(id string) string {
	if id == "init" || id == "shim" {
		return fmt.Sprintf("..%s.pid", id)
	}
	return fmt.Sprintf("%s.pid", id)
}
