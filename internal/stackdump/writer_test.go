// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// writer is one whose descriptor is given back.
func writer(t *testing.T, dir, spare string) *Writer {
	t.Helper()
	w := NewWriter(dir, spare, "n/s", "c1", "1")
	t.Cleanup(func() { w.dropReserve() })
	return w
}

// saved is the path of a dump that must succeed.
func saved(t *testing.T, w *Writer) string {
	t.Helper()
	path, err := w.Save(w.Take())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestDumpIsOneCompleteFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := saved(t, writer(t, dir, ""))
	if names := files(t, dir); len(names) != 1 || names[0] != filepath.Base(path) {
		t.Errorf("files %q, dump %s", names, path)
	}
	for p, want := range map[string]os.FileMode{path: 0o600, dir: 0o700 | os.ModeDir} {
		if st, err := os.Stat(p); err != nil || st.Mode() != want {
			t.Errorf("%s: mode %v, want %v (%v)", p, st.Mode(), want, err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{"id: c1\n", "namespace: n/s\n", "TestDumpIsOneCompleteFile"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the dump", want)
		}
	}
	if d, err := Parse(data); err != nil || !d.Complete || d.Form != FormFile || d.Header["id"] != "c1" {
		t.Errorf("got %+v, %v; it ends with %q", d, err, text[max(0, len(text)-50):])
	}
	if prefix := FilePrefix("n/s", "c1", os.Getpid()); !IsFile(filepath.Base(path), prefix) || IsFile("."+filepath.Base(path), prefix) {
		t.Errorf("%s has not the prefix %s", path, prefix)
	}
}

// TestDumpsAreBounded keeps this shim's newest ten and others' all.
func TestDumpsAreBounded(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "n_s.c1.1.20200101T000000.000000000Z.1.stacks")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := writer(t, dir, "")
	var paths []string
	for range 2*keepDumps + 3 {
		paths = append(paths, saved(t, w))
	}
	for i, path := range paths {
		_, err := os.Stat(path)
		if kept, want := err == nil, i >= len(paths)-keepDumps; kept != want {
			t.Errorf("dump %d of %d kept: %v", i+1, len(paths), kept)
		}
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("another shim's dump: %v", err)
	}
}

// TestDumpAfterTheClockWasSetBack: the newest is kept though its name sorts first.
func TestDumpAfterTheClockWasSetBack(t *testing.T) {
	dir := t.TempDir()
	w := writer(t, dir, "")
	for i := range keepDumps {
		later := filepath.Join(dir, FileName(w.namespace, w.id, os.Getpid(), time.Now().AddDate(70, 0, 0), i))
		if err := os.WriteFile(later, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := saved(t, w)
	if _, err := os.Stat(path); err != nil || len(files(t, dir)) != keepDumps {
		t.Errorf("%v, %d dumps", err, len(files(t, dir)))
	}
}

// TestSaveOnAFullOrReadOnlyDisk (F11): the spare directory takes it, and nothing
// is left in the first; without a spare one there is an error.
func TestSaveOnAFullOrReadOnlyDisk(t *testing.T) {
	dir, spare := t.TempDir(), t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8k"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	full := filepath.Join(dir, "full")
	if err := os.WriteFile(full, make([]byte, 8<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	try := func(why error) {
		t.Helper()
		w := writer(t, dir, spare)
		if path, err := w.Save(w.Take()); !errors.Is(err, why) || filepath.Dir(path) != spare {
			t.Errorf("with a spare directory: %q, %v; want %v", path, err, why)
		}
		for _, spare := range []string{"", filepath.Join(spare, "missing")} {
			w := writer(t, dir, spare)
			if path, err := w.Save(w.Take()); !errors.Is(err, why) || path != "" {
				t.Errorf("spare directory %q: %q, %v", spare, path, err)
			}
		}
		if names := files(t, dir); len(names) != 1 {
			t.Errorf("left behind: %q", names)
		}
	}
	try(unix.ENOSPC)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	try(unix.EROFS)
}

// TestSaveWithoutADescriptor (F11): again and again, while the process has none.
func TestSaveWithoutADescriptor(t *testing.T) {
	dir := t.TempDir()
	w := writer(t, dir, "")
	giveBack := useUpDescriptors(t)
	first, firstErr := w.Save(w.Take())
	second, secondErr := w.Save(w.Take())
	giveBack()
	for path, err := range map[string]error{first: firstErr, second: secondErr} {
		if err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	if names := files(t, dir); len(names) != 2 {
		t.Errorf("%d dumps, want 2", len(names))
	}
}

// useUpDescriptors leaves no descriptor until giveBack is called.
func useUpDescriptors(t *testing.T) (giveBack func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	var taken []int
	giveBack = func() {
		for _, fd := range taken {
			_ = unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == unix.EMFILE {
			return giveBack
		}
		if err != nil {
			giveBack()
			t.Fatal(err)
		}
		taken = append(taken, fd)
	}
}

// TestCutDumpSaysSo: one that was cut at its bound had the mark of a whole one.
func TestCutDumpSaysSo(t *testing.T) {
	w := writer(t, t.TempDir(), "")
	w.limit = 1000
	d, err := Parse(w.Take())
	if err != nil {
		t.Fatal(err)
	}
	if d.Complete || !strings.Contains(d.Why, "cut at 1000 bytes") {
		t.Errorf("got complete %v, %q", d.Complete, d.Why)
	}
}
