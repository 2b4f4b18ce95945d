// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Mutant builds this project's shim with one thing broken: broken in the place of old,
// which must be in the file, a path in the module, exactly once. It returns the program's
// path.
func Mutant(t *testing.T, file, old, broken string) string {
	t.Helper()
	path := filepath.Join(Module(t), file)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), old); n != 1 {
		t.Fatalf("%s has %q %d times, want once: adapt this mutant to the shim", file, old, n)
	}
	dir := t.TempDir()
	changed, overlay, shim := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay"), filepath.Join(dir, "containerd-shim")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string]string{changed: strings.Replace(string(source), old, broken, 1), overlay: string(list)} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-overlay", overlay, "-o", shim, "./cmd/containerd-shim")
	cmd.Dir = Module(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the mutant: %v: %s", err, out)
	}
	return shim
}
