// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"path/filepath"
	"testing"

	"containerd-shim/proc/stdio"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The directories that the daemon's environment names may go while the shim
// lives; execs and terminals go on.
func TestTempDirHasVanished(t *testing.T) {
	dir := t.TempDir()
	gone, file, left := filepath.Join(dir, "gone"), filepath.Join(dir, "file"), filepath.Join(dir, "left")
	if err := errorOr(os.WriteFile(file, nil, 0o600), os.Mkdir(left, 0o700)); err != nil {
		t.Fatal(err)
	}
	last := lastTempDir
	lastTempDir = left
	t.Cleanup(func() { lastTempDir = last })
	r, _ := scripted(t, "exit 0")
	for name, env := range map[string]struct{ runtime, tmp string }{
		"runtime directory": {gone, left},
		"a file instead":    {file, left},
		"both":              {gone, gone},
		"no runtime":        {"", gone},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			out := fifo(t) // before it could not be made any more
			t.Setenv("XDG_RUNTIME_DIR", env.runtime)
			t.Setenv("TMPDIR", env.tmp)
			p, err := stdio.Open(stdio.Config{Names: Stdio{Stdout: out}, Limits: shortLimits()})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Exec(t.Context(), "c1", specs.Process{}, ExecCall{IO: p}); err != nil {
				t.Errorf("exec: %v", err)
			}
			p.Abort()
			t.Setenv("XDG_RUNTIME_DIR", env.runtime)
			t.Setenv("TMPDIR", env.tmp)
			p, err = stdio.Open(stdio.Config{
				Names: Stdio{Stdout: out, Terminal: true}, NewConsoleSocket: newConsoleSocket, Limits: shortLimits(),
			})
			if err != nil {
				t.Fatalf("terminal: %v", err)
			}
			p.Abort()
		})
	}
}
