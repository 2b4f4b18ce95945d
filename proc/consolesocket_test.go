// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"containerd-shim.v1/proc/stdio"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// F17: the directories that the daemon's environment names may vanish, be full
// or be read-only while the shim lives; execs and terminals go on.
func TestNothingIsWrittenToTheEnvironmentsDirectories(t *testing.T) {
	dir := t.TempDir()
	gone, file := filepath.Join(dir, "gone"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r, _ := scripted(t, "exit 0")
	for _, name := range []string{gone, file} {
		census(t)
		out := fifo(t) // before it could not be made any more
		bundle := t.TempDir()
		t.Setenv("XDG_RUNTIME_DIR", name)
		t.Setenv("TMPDIR", name)
		p, err := stdio.Open(stdio.Config{Names: Stdio{Stdout: out}, Limits: shortLimits()})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Exec(t.Context(), "c1", specs.Process{}, ExecCall{IO: p}); err != nil {
			t.Errorf("exec: %v", err)
		}
		p.Abort()
		s, err := newConsoleSocket(bundle)
		if err != nil {
			t.Fatalf("terminal: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A bundle's path may be longer than the address of a socket, as those of
// Kubernetes are.
func TestConsoleSocketInALongBundle(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if err := os.Mkdir(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(bundle) // as the shim's
	s, err := newConsoleSocket(bundle)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", s.Path())
	if err != nil {
		t.Errorf("the runtime's side: %v", err)
	} else if err := conn.Close(); err != nil {
		t.Error(err)
	}
	for _, want := range []int{1, 0} {
		if files, err := os.ReadDir(bundle); err != nil || len(files) != want {
			t.Errorf("in the bundle: %v, %v, want %d sockets", files, err, want)
		}
		if err := s.Close(); want == 1 && err != nil {
			t.Error(err)
		}
	}
}
