// SPDX-License-Identifier: Apache-2.0

package shimtest

import (
	"os"
	"path/filepath"
	"testing"
)

// Baseline is the path of upstream's shim of a release, below the directory in
// SHIM_BASELINES; "debian" is the one that the package containerd installs. Tests that need one have the build tag baseline, and fail
// without.
func Baseline(t testing.TB, version string) string {
	t.Helper()
	if version == "debian" {
		return "/usr/bin/containerd-shim"
	}
	dir := os.Getenv("SHIM_BASELINES")
	if dir == "" {
		t.Fatal("SHIM_BASELINES is not set: it names the directory with VERSION/containerd-shim")
	}
	path := filepath.Join(dir, version, "containerd-shim")
	must(t, func() error { _, err := os.Stat(path); return err }())
	return path
}
