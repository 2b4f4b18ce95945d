// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"
	"os"
	"path/filepath"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// newConsoleSocket makes a socket in the bundle on which the runtime sends a
// terminal. No other directory is sure to exist as long as the shim: what
// XDG_RUNTIME_DIR or TMPDIR name in the daemon's environment may be removed, full
// or read-only. A bundle's path is often too long for a socket's address (unix(7):
// 108 bytes); then the path is relative to the shim's working directory, which is
// the bundle.
func newConsoleSocket(bundle string) (*runc.Socket, error) {
	name := fmt.Sprintf(".console.%d.sock", calls.Add(1))
	path := filepath.Join(bundle, name)
	if len(path) >= len(unix.RawSockaddrUnix{}.Path) {
		path = fmt.Sprintf("/proc/%d/cwd/%s", os.Getpid(), name)
	}
	s, err := runc.NewConsoleSocket(path)
	if err != nil {
		_ = os.Remove(path) // net.Listen leaves what it has bound and could not listen on
	}
	return s, err
}
