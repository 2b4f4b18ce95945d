// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDemoBuildsItsOldShim: in a fresh clone there is none.
func TestDemoBuildsItsOldShim(t *testing.T) {
	tree, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	clone := t.TempDir()
	for _, dir := range []string{"integration", "mk"} {
		if err := os.Symlink(filepath.Join(tree, dir), filepath.Join(clone, dir)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(clone)
	path, err := baseline()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command(path, "-h").CombinedOutput(); err != nil {
		t.Errorf("%s -h: %v, %q", path, err, text)
	}
}
