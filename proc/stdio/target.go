// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"containerd-shim.v1/internal/errclass"

	"golang.org/x/sys/unix"
)

// The schemes of a stdout name. A name without one is the path of a FIFO or of
// a file that exists.
const (
	schemeFIFO   = "fifo"
	schemeFile   = "file"
	schemeBinary = "binary"
)

// target is where the output goes, as stdout names it; stderr follows it for
// file and binary.
type target struct {
	scheme string
	path   string
	args   []string // binary only
}

// parseTarget reads a stdout name.
func parseTarget(stdout string) (target, error) {
	scheme, rest, ok := strings.Cut(stdout, "://")
	if !ok || strings.ContainsRune(scheme, '/') {
		return target{scheme: schemeFIFO, path: stdout}, nil
	}
	switch scheme {
	case schemeFIFO:
		return target{scheme: schemeFIFO, path: rest}, nil
	case schemeFile:
		u, err := url.Parse(stdout)
		if err != nil || u.Path == "" {
			return target{}, errclass.Invalidf("stdout %q is no file:// URI with a path", stdout)
		}
		return target{scheme: schemeFile, path: u.Path}, nil
	case schemeBinary:
		return parseBinary(stdout)
	}
	return target{}, errclass.Invalidf("unknown STDIO scheme %s", scheme)
}

// stat is replaced by tests.
var stat = os.Stat

// makeLogFile makes the file of a file:// target and its directory. What exists
// is left to openSink: it may be a FIFO, whose open would wait for a reader, or show
// its reader an end.
func makeLogFile(path string) error {
	if _, err := stat(path); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return errclass.Pathf("open output: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return errclass.Pathf("open output: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return errclass.Pathf("open output: %w", err)
	}
	return f.Close()
}

// parseBinary reads binary:///path?key=value&…; the logger's arguments are the
// keys and values in the order in which they are written.
func parseBinary(stdout string) (target, error) {
	u, err := url.Parse(stdout)
	if err != nil || u.Path == "" {
		return target{}, errclass.Invalidf("stdout %q is no binary:// URI with a path", stdout)
	}
	t := target{scheme: schemeBinary, path: u.Path}
	for _, pair := range strings.Split(u.RawQuery, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		for _, s := range []string{key, value} {
			if s == "" {
				continue
			}
			arg, err := url.QueryUnescape(s)
			if err != nil {
				return target{}, errclass.Invalidf("stdout %q: argument %q: %w", stdout, s, err)
			}
			t.args = append(t.args, arg)
		}
	}
	return t, nil
}
