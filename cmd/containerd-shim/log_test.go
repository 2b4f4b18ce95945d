// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/internal/stackdump"
)

// emptied returns all that is in the FIFO.
func emptied(l logFIFO) (all []byte) {
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(l.fd, buf)
		if err != nil {
			return all // EAGAIN: it is empty
		}
		all = append(all, buf[:n]...)
	}
}

// TestLogNeverBlocks is B29: although nobody reads, writes do not block, and the
// newest lines are kept.
func TestLogNeverBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shim.stdout.log")
	l, err := openLogFIFO(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.fd)
	const lines = 20000
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range lines {
			line := fmt.Sprintf("line %05d %s\n", i, strings.Repeat("x", i%300))
			if n, err := l.Write([]byte(line)); n != len(line) || err != nil {
				t.Errorf("write: %d, %v", n, err)
			}
		}
		if n, err := l.Write(bytes.Repeat([]byte("y"), 1<<20)); n != 1<<20 || err != nil {
			t.Errorf("write of 1 MiB: %d, %v", n, err)
		}
		_, _ = l.Write([]byte("\nthe last line\n")) // always nil
	}()
	select {
	case <-written:
	case <-time.After(20 * time.Second):
		t.Fatal("writing to the log blocks")
	}
	if got := string(emptied(l)); !strings.HasSuffix(got, "\nthe last line\n") {
		t.Errorf("%d bytes, ending with %q", len(got), got[max(0, len(got)-40):])
	}
}

// TestSecondDumpIntoTheLog: nobody reads, and two dumps do not fit. The newer one is whole, and has not
// made both useless.
func TestSecondDumpIntoTheLog(t *testing.T) {
	l, err := openLogFIFO(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.fd)
	stack := "goroutine %d [select]:\nmain.main()\n\t/x/main.go:1\n\n"
	var text []byte
	for len(text) < maxStacks*9/10 {
		text = fmt.Appendf(text, stack, len(text))
	}
	l.writeStacks(text)
	l.writeStacks(fmt.Appendf(text, stack, 1<<30))
	text = emptied(l)
	d, err := stackdump.Parse(text)
	if err != nil || !d.Complete || !slices.ContainsFunc(d.Goroutines, func(g stackdump.Goroutine) bool { return g.ID == 1<<30 }) {
		t.Errorf("of %d bytes: %v, %+v", len(text), err, d.Why)
	}
}

// TestLogFIFOMode is B62: the mode is the same whatever the umask.
func TestLogFIFOMode(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o077} {
		old := unix.Umask(mask)
		path := filepath.Join(t.TempDir(), "log")
		l, err := openLogFIFO(path)
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(l.fd) // only its mode matters
		if st, err := os.Stat(path); err != nil || st.Mode() != os.ModeNamedPipe|0o700 {
			t.Errorf("umask %o: %v, %v", mask, st.Mode(), err)
		}
	}
}

func TestLogFIFOThatIsNone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, dir, filepath.Join(dir, "no", "dir")} {
		if _, err := openLogFIFO(path); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}
