// SPDX-License-Identifier: Apache-2.0

package shimtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"containerd-shim.v1/integration/harness/sweep"
)

// Names of the tools.
const (
	helper   = "shimhelper" // plays runtime, publisher and processes
	fakeShim = "fake-containerd-shim"
	ownShim  = "containerd-shim"
)

// dir has the tools, once they are built; Run removes it.
var dir string

// build makes the tools by `go build`: static, and without the race detector,
// under which a program takes a second to start.
var build = sync.OnceValue(func() error {
	var err error
	if dir, err = os.MkdirTemp("", "shimtest"); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // tests run shimctl as another user, too
		return err
	}
	for name, pkg := range map[string]string{
		helper:    "containerd-shim.v1/integration/harness/guest/helper/shimhelper",
		fakeShim:  "containerd-shim.v1/cmd/shimctl/internal/shimtest/testdata/fakeshim",
		"shimctl": "containerd-shim.v1/cmd/shimctl",
		ownShim:   "containerd-shim.v1/cmd/containerd-shim",
	} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
})

// Run is for TestMain: it runs the tests and removes the tools.
func Run(m *testing.M) int {
	defer func() {
		if dir != "" {
			_ = os.RemoveAll(dir)
			if mine, err := run(); err == nil {
				_ = sweep.Clean(mine) // each test has cleaned up, and said what it could not
			}
		}
	}()
	return m.Run()
}

// Shimctl is the path of shimctl, built from this tree.
func Shimctl(t testing.TB) string {
	t.Helper()
	return tool(t, "shimctl")
}

// Self is the program that traces for a test: shimctl, once the test has started a
// shim; until then the test binary, which takes a second to start under the race
// detector.
func Self() string {
	if dir == "" {
		return "/proc/self/exe"
	}
	return filepath.Join(dir, "shimctl")
}

// Own is the path of this project's shim, built from this tree.
func Own(t testing.TB) string {
	t.Helper()
	return tool(t, ownShim)
}

func tool(t testing.TB, name string) string {
	t.Helper()
	must(t, build())
	return filepath.Join(dir, name)
}
