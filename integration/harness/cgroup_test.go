// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMakeCgroup makes one on a host of each kind.
func TestMakeCgroup(t *testing.T) {
	for name, tt := range map[string]struct {
		files []string // as the kernel and runc have made them
		want  string   // the cgroup
	}{
		"version 1":             {[]string{"pids/run/case/pids.current"}, "pids/run/case-shim"},
		"both":                  {[]string{"pids/run/case/pids.current", "unified/cgroup.controllers"}, "pids/run/case-shim"},
		"version 2":             {[]string{"cgroup.controllers", "run/case/pids.current"}, "run/case-shim"},
		"version 1 but no pids": {[]string{"memory/run/case/memory.limit_in_bytes"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, file := range tt.files {
				if err := os.MkdirAll(filepath.Join(root, filepath.Dir(file)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			dir, err := makeCgroup(root, "pids", "run/case-shim")
			if tt.want == "" {
				if _, there := os.Stat(filepath.Join(root, "pids")); err == nil || there == nil {
					t.Errorf("%s, made: %v", dir, there == nil)
				}
				return
			}
			if st, statErr := os.Stat(filepath.Join(root, tt.want)); err != nil || statErr != nil || !st.IsDir() || dir != filepath.Join(root, tt.want) {
				t.Fatalf("%s, %v, want %s: %v", dir, err, tt.want, statErr)
			}
			if control, err := os.ReadFile(filepath.Join(root, "run/cgroup.subtree_control")); unified(root) && string(control) != "+pids" {
				t.Errorf("controllers of the cgroup: %q, %v", control, err)
			}
		})
	}
}
