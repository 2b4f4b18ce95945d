// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package inplace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExec(t *testing.T) {
	v := startVictim(t)
	if err := swap(v.pid, image(victimPath), func(string) {}); err != nil {
		t.Fatal(err)
	}
	v.answers(t, "second", true)
	v2 := startVictim(t)
	x := image(victimPath)
	x.Keep = nil
	if err := swap(v2.pid, x, func(string) {}); err != nil {
		t.Fatal(err)
	}
	v2.answers(t, "second", false)
}

// TestExecWithManyDescriptors: a shim with some hundred execs has some thousand descriptors, and
// their table had no room. One that is not open is passed over.
func TestExecWithManyDescriptors(t *testing.T) {
	v := startVictim(t)
	x := image("/nonexistent")
	for fd := range 10_000 {
		x.Keep = append(x.Keep, 100+fd)
	}
	x.Keep = append(x.Keep, kept)
	var failed *ExecError
	if err := swap(v.pid, x, func(string) {}); !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", v.pid, kept))
	var pos, flags uint64
	if n, _ := fmt.Sscanf(string(info), "pos: %d\nflags: %o", &pos, &flags); err != nil || n != 2 || flags&unix.O_CLOEXEC == 0 {
		t.Errorf("got %s, %v", info, err)
	}
	x.Path = victimPath
	if err := swap(v.pid, x, func(string) {}); err != nil {
		t.Fatal(err)
	}
	v.answers(t, "second", true)
}

func TestExecFails(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	self, err := os.ReadFile(victimPath)
	if err != nil {
		t.Fatal(err)
	}
	open, err := os.OpenFile(file("busy", string(self), 0o755), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	tests := []struct {
		name, path string
		want       syscall.Errno
	}{
		{"nothing there", filepath.Join(dir, "none"), unix.ENOENT},
		{"no right", file("noexec", string(self), 0o644), unix.EACCES},
		{"directory", dir, unix.EACCES},
		{"junk", file("junk", "junk", 0o755), unix.ENOEXEC},
		{"cut short", file("elf", string(self[:100]), 0o755), unix.ENOEXEC},
		{"open for writing", open.Name(), unix.ETXTBSY},
	}
	v := startVictim(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 5 {
				err := swap(v.pid, image(tt.path), func(string) {})
				var failed *ExecError
				if !errors.As(err, &failed) || failed.Errno != tt.want {
					t.Fatalf("got %v, want %v", err, tt.want)
				}
				v.answers(t, "first", true)
			}
		})
	}
	t.Run("too large", func(t *testing.T) {
		x := image(victimPath)
		x.Args = append(x.Args, strings.Repeat("x", maxData))
		if err := swap(v.pid, x, func(string) {}); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("got %v", err)
		}
		v.answers(t, "first", true)
	})
	// What was written was put back, so that an exchange is still possible.
	if err := swap(v.pid, image(victimPath), func(string) {}); err != nil {
		t.Fatal(err)
	}
	v.answers(t, "second", true)
}
