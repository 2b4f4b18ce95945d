// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"path/filepath"
	"testing"
)

// B50: processes are left to the kernel only in a pid namespace of their own.
func TestSharesPidNamespace(t *testing.T) {
	for config, want := range map[string]bool{
		`{"linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}}`:        false,
		`{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}`: true,
		`{"linux":{"namespaces":[{"type":"mount"}]}}`:                       true,
		`{}`: true,
		`{"linux":{"namespaces":[{"type":"pid"}]}`: true, // broken
		"": true, // there is none
	} {
		dir := t.TempDir()
		if config != "" {
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := sharesPidNamespace(dir); got != want {
			t.Errorf("%q: got %v, want %v", config, got, want)
		}
	}
}
