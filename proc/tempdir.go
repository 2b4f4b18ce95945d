// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// lastTempDir is where temporary files go when nothing that the environment
// names is left. A variable for tests.
var lastTempDir = "/run"

// settleTempDir makes sure that go-runc finds a directory for an exec's spec
// and for console sockets: it uses $XDG_RUNTIME_DIR or else $TMPDIR or else
// /tmp. The shim has the environment of its daemon and outlives what that
// names: /run/user/UID goes when the user who started the daemon by hand logs
// out, a PrivateTmp when the daemon's unit stops. runc itself uses
// XDG_RUNTIME_DIR only where it has no --root.
func settleTempDir() {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		if isUsable(dir) {
			return
		}
		_ = os.Unsetenv("XDG_RUNTIME_DIR") // cannot fail
	}
	if !isUsable(os.TempDir()) {
		_ = os.Setenv("TMPDIR", lastTempDir) // cannot fail
	}
}

// newConsoleSocket makes a socket for a terminal's master in such a directory.
func newConsoleSocket() (*runc.Socket, error) {
	settleTempDir()
	return runc.NewTempConsoleSocket()
}

func isUsable(dir string) bool {
	st, err := os.Stat(dir)
	return err == nil && st.IsDir() && unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}
