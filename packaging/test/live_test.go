// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"path/filepath"
	"testing"
)

// Real Docker with the packages installed, removed and purged, and the commands
// of docs/install.md: see the program, which leaves the host alone.
func TestLiveDocker(t *testing.T) {
	t.Parallel()
	program := filepath.Join(scratch(t), "live")
	run(t, command(tree, "go", "build", "-o", program, "./packaging/test/live"))
	t.Logf("%s", run(t, command(tree, program, "-debs", made(t, "build-deb"))))
}
