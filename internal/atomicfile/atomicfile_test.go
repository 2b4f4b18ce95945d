// SPDX-License-Identifier: Apache-2.0

package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWriteReplaces(t *testing.T) {
	for name, write := range map[string]func(string, []byte, os.FileMode) error{"Write": Write, "WriteDurable": WriteDurable} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			for _, content := range []string{"a longer first one", "second"} {
				if err := write(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || string(got) != content {
					t.Errorf("got %q, %v, want %q", got, err, content)
				}
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
				t.Errorf("got %v, %v", st, err)
			}
			wantOnly(t, dir, "f")
		})
	}
}

// A link in the way is replaced, and nothing is written to what it points at.
func TestWriteFollowsNoLink(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
	if err := os.Symlink(other, filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the target: %v", err)
	}
}

// A file that cannot be written or renamed leaves nothing behind.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "taken"), []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	wantOnly(t, dir, "taken")
	if err := Write("/dev/full/f", []byte("x"), 0o600); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("got %v", err)
	}
	full := t.TempDir()
	if err := unix.Mount("tmpfs", full, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(full, 0) }()
	if err := Write(filepath.Join(full, "f"), make([]byte, 8192), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk: got %v", err)
	}
	wantOnly(t, full)
}

func TestUnfinished(t *testing.T) {
	for name, want := range map[string]string{".f.1": "f", ".a.b.c.12": "a.b.c", "f.1": "", "f": "", ".f": "", "..": "", "": ""} {
		if got, ok := Unfinished(name); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", name, got, ok, want)
		}
	}
}

// wantOnly wants these files in dir, and no others.
func wantOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(want) {
		t.Fatalf("got %v, %v, want %q", entries, err, want)
	}
	for i, e := range entries {
		if e.Name() != want[i] {
			t.Errorf("got %s, want %s", e.Name(), want[i])
		}
	}
}
