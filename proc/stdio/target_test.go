// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"containerd-shim.v1/integration/harness/wait"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]target{
		"":                         {scheme: schemeFIFO},
		"/run/fifo":                {scheme: schemeFIFO, path: "/run/fifo"},
		"fifo:///run/x":            {scheme: schemeFIFO, path: "/run/x"},
		"file:///var/log/x%20y":    {scheme: schemeFile, path: "/var/log/x y"},
		"/odd/a://b":               {scheme: schemeFIFO, path: "/odd/a://b"},
		"binary:///bin/l":          {scheme: schemeBinary, path: "/bin/l"},
		"binary:///bin/l?b=2&a=1":  {scheme: schemeBinary, path: "/bin/l", args: []string{"b", "2", "a", "1"}},
		"binary:///bin/l?x&y=%2Fz": {scheme: schemeBinary, path: "/bin/l", args: []string{"x", "y", "/z"}},
	} {
		got, err := parseTarget(in)
		if err != nil || got.scheme != want.scheme || got.path != want.path || !slices.Equal(got.args, want.args) {
			t.Errorf("%q: got %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"http://x", "file://", "binary://", "binary:///l?a=%zz", "://x"} {
		if _, err := parseTarget(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// FuzzTarget: a stdout name is one of the three kinds, with a path where it needs one,
// or the caller's mistake.
func FuzzTarget(f *testing.F) {
	for _, in := range []string{"", "/run/fifo", "fifo:///x", "file:///x?y", "binary:///bin/l?b=2&a=%2F&&c", "binary:///l?a=%zz", "://x", "a/b://c", "file://host/x"} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, stdout string) {
		got, err := parseTarget(stdout)
		switch {
		case err != nil:
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: %v", stdout, err)
			}
		case got.scheme == schemeFile || got.scheme == schemeBinary:
			if got.path == "" || !strings.HasPrefix(stdout, got.scheme+"://") {
				t.Errorf("%q: got %+v", stdout, got)
			}
		case got.scheme != schemeFIFO || !strings.HasSuffix(stdout, got.path):
			t.Errorf("%q: got %+v", stdout, got)
		}
	})
}

// TestLogFileThatCannotBeLookedAt: that a FIFO exists was not to be found out; its open
// would have waited for a reader, for ever.
func TestLogFileThatCannotBeLookedAt(t *testing.T) {
	defer func() { stat = os.Stat }()
	for _, tt := range []struct{ says, want error }{
		{unix.ENOMEM, errdefs.ErrResourceExhausted},
		{unix.ENOENT, unix.ENXIO}, // it was made after that
	} {
		path := fifo(t)
		stat = func(string) (os.FileInfo, error) { return nil, tt.says }
		made := make(chan error, 1)
		go func() { made <- makeLogFile(path) }()
		if !wait.Until(patience, func() bool { return len(made) > 0 }) {
			_ = openFifo(t, path, os.O_RDONLY|unix.O_NONBLOCK).Close() // ends it
			t.Errorf("%v: it waits for a reader", tt.says)
		}
		if err := <-made; !errors.Is(err, tt.want) {
			t.Errorf("%v: %v, want %v", tt.says, err, tt.want)
		}
	}
}
