// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// deadPid returns the pid of a process that has ended.
func deadPid(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// plant makes a file in dir that is as old as age and as large as size.
func plant(t *testing.T, dir, name string, age time.Duration, size int64) string {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil { // a hole: it costs no disk
		t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	return name
}

func dumpOf(pid, n int) string {
	return fmt.Sprintf("moby.with.dots.%d.20260102T030405.000000000Z.%d.stacks", pid, n)
}

// TestDumpsOfDeadShims: those that are old go, those of living shims and files
// of others stay, whatever their names.
func TestDumpsOfDeadShims(t *testing.T) {
	dir := t.TempDir()
	dead, old := deadPid(t), keepDeadFor+time.Hour
	gone := []string{
		plant(t, dir, dumpOf(dead, 1), old, 1),
		plant(t, dir, "."+dumpOf(dead, 2)+".123", 0, 1), // it died while it wrote
	}
	kept := []string{
		plant(t, dir, dumpOf(dead, 3), keepDeadFor-time.Hour, 1),
		plant(t, dir, dumpOf(1, 4), old, 1), // pid 1 lives
		plant(t, dir, "."+dumpOf(1, 5)+".123", old, 1),
		plant(t, dir, dumpOf(0, 6), old, 1),
		plant(t, dir, dumpOf(-dead, 7), old, 1),
		plant(t, dir, fmt.Sprintf("a.b.%d99999999999.20260102T030405.000000000Z.1.stacks", dead), old, 1),
		plant(t, dir, fmt.Sprintf("a.b.%d.20260102T030405.000000000Z.1.stacks.txt", dead), old, 1),
		plant(t, dir, fmt.Sprintf("a.b.%d.20269902T030405.000000000Z.1.stacks", dead), old, 1),
		plant(t, dir, fmt.Sprintf("%d.20260102T030405.000000000Z.1.stacks", dead), old, 1),
		plant(t, dir, "notes.txt", old, 1),
	}
	kept = append(kept, dumpOf(dead, 8), dumpOf(dead, 9))
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, dumpOf(dead, 8))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, dumpOf(dead, 9)), 0o700); err != nil {
		t.Fatal(err)
	}
	path := saved(t, writer(t, dir, ""))
	names := files(t, dir)
	for _, name := range append(kept, filepath.Base(path)) {
		if !slices.Contains(names, name) {
			t.Errorf("removed: %s", name)
		}
	}
	for _, name := range gone {
		if slices.Contains(names, name) {
			t.Errorf("left: %s", name)
		}
	}
	if _, err := os.Stat(target); err != nil {
		t.Errorf("what a link leads to: %v", err)
	}
}

// TestDumpsOfDeadShimsAreBounded in number and in size, the newest are kept, and
// several shims may tidy up at once.
func TestDumpsOfDeadShimsAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		files int
		size  int64
		want  int
	}{
		"number": {keepDead + 50, 1, keepDead},
		"size":   {10, keepDeadBytes / 4, 4},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			dead := deadPid(t)
			for i := range c.files {
				plant(t, dir, dumpOf(dead, i), time.Duration(i)*time.Minute, c.size)
			}
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					w := writer(t, dir, "")
					w.id = fmt.Sprint(i)
					if _, err := w.Save(nil); err != nil {
						t.Error(err)
					}
				}()
			}
			wg.Wait()
			names := files(t, dir)
			if got := len(names) - 4; got != c.want {
				t.Errorf("%d dumps of a dead shim, want %d", got, c.want)
			}
			for i := range c.want {
				if !slices.Contains(names, dumpOf(dead, i)) {
					t.Errorf("the newest dump but %d was removed", i)
				}
			}
		})
	}
}
