// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/proc/internal/proctest"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// What cannot be a stream is refused at once, with its name, and nothing of
// the others that were opened before stays.
func TestUnusableStreams(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	missing := filepath.Join(dir, "missing")
	for name, tt := range map[string]struct {
		stdio Names
		want  string
	}{
		"missing input":       {Names{Stdin: missing}, "open input: stat " + missing},
		"missing output":      {Names{Stdout: missing}, "open output: stat " + missing},
		"missing error":       {Names{Stderr: missing}, "open output: stat " + missing},
		"directory as input":  {Names{Stdin: dir}, "is a directory"},
		"directory as output": {Names{Stdout: dir}, "is a directory"},
		"directory as error":  {Names{Stderr: dir}, "is a directory"},
		"directory as file":   {Names{Stdout: "file://" + dir}, "is a directory"},
		"socket as input":     {Names{Stdin: socket}, "is a socket"},
		"socket as output":    {Names{Stdout: socket}, "is a socket"},
		"below a file":        {Names{Stdout: "file://" + file + "/log"}, "not a directory"},
		"unknown scheme":      {Names{Stdout: "journald://x"}, "unknown STDIO scheme journald"},
		"binary without path": {Names{Stdout: "binary://"}, "no binary:// URI"},
		"terminal, missing":   {Names{Stdout: missing, Terminal: true}, "open output: stat " + missing},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			// The streams that can be opened are.
			for _, s := range []*string{&tt.stdio.Stdin, &tt.stdio.Stdout, &tt.stdio.Stderr} {
				if *s == "" {
					*s = fifo(t)
				}
			}
			_, err := Open(Config{Names: tt.stdio, Limits: short()})
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want InvalidArgument and %q", err, tt.want)
			}
		})
	}
}

// A file:// target that is a FIFO is a FIFO: opening it waits for nobody.
func TestFileTargetThatIsAFIFO(t *testing.T) {
	census(t)
	path := fifo(t)
	opened := make(chan struct{})
	var p *Streams
	var err error
	go func() {
		defer close(opened)
		p, err = Open(Config{Names: Names{Stdout: "file://" + path}, Limits: short()})
	}()
	within(t, patience, "open", opened)
	if err != nil {
		t.Fatal(err)
	}
	p.Abort()
}

// B36: a client that keeps its end of stdin open holds nothing of the shim's
// once the process has exited.
func TestInputHeldOpenByClient(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		in := fifo(t)
		w, err := os.OpenFile(in, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		before := len(proctest.Descriptors())
		func() {
			census(t)
			out := fifo(t)
			p := open(t, Config{Names: Names{Stdin: in, Stdout: out, Terminal: terminal}})
			c := attach(t, out)
			p.end(t, p.play(t, "exit", "0"))
			c.All(t)
			if !wait.Until(patience, func() bool { return len(proctest.Descriptors()) <= before }) {
				t.Errorf("terminal %v: %d descriptors, were %d: %v", terminal, len(proctest.Descriptors()), before, proctest.Descriptors())
			}
		}()
	}
}

// A process that has gone takes what was written to its input with it; the
// pump does not wait for room in its pipe.
func TestInputNobodyReads(t *testing.T) {
	census(t)
	in := fifo(t)
	p, child := play(t, Config{Names: Names{Stdin: in}}, "sleep")
	w := openFifo(t, in, os.O_WRONLY)
	_ = w.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // fails only if closed
	if n, err := w.Write(make([]byte, 1<<20)); err == nil {
		t.Fatalf("%d bytes fit two pipes", n)
	}
	_ = child.Signal(unix.SIGKILL)
	p.end(t, child)
}

// B32: after CloseIO the input ends with its client, whatever came first.
func TestCloseIO(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before bool // CloseIO before the start
		open   string
	}{
		{"before start, client there", true, "before"},
		{"before start, client late", true, "late"},
		{"before start, client never", true, "never"},
		{"after start", false, "before"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			census(t)
			in, out := fifo(t), fifo(t)
			var w *os.File
			if tt.open == "before" {
				keep, err := os.OpenFile(in, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				w = openFifo(t, in, os.O_WRONLY)
				_ = keep.Close() // only for the open not to wait
			}
			limits := short()
			if tt.open == "late" {
				limits = patient()
			}
			p, err := Open(Config{Names: Names{Stdin: in, Stdout: out}, Limits: limits})
			if err != nil {
				t.Fatal(err)
			}
			if tt.before {
				p.CloseInput()
			}
			if err := p.HoldInput(); err != nil {
				t.Fatal(err)
			}
			c := attach(t, out)
			child := p.play(t, "cat")
			if !tt.before {
				p.CloseInput()
				p.CloseInput() // twice is once
			}
			want := ""
			if tt.open != "never" {
				if tt.open == "late" {
					if !wait.Until(patience, func() bool { return waitsIn("awaitClient") }) {
						t.Fatal("the shim does not wait for the client")
					}
					w = openFifo(t, in, os.O_WRONLY)
				}
				want = "hello\n"
				if _, err := w.WriteString(want); err != nil {
					t.Error(err)
				}
				_ = w.Close() // what was written is in the FIFO
			}
			p.end(t, child)
			if got := c.All(t); got != want {
				t.Errorf("the process read %q, want %q", got, want)
			}
		})
	}
}

// One FIFO for both streams: what is written comes in the order in which it was
// written, and the streams do not take each other for the client.
func TestOneFIFOForBothStreams(t *testing.T) {
	for _, form := range []string{"path", "link"} {
		t.Run(form, func(t *testing.T) {
			census(t)
			path := fifo(t)
			s := Names{Stdout: path, Stderr: path}
			if form == "link" {
				s.Stderr += ".link"
				if err := os.Symlink(path, s.Stderr); err != nil {
					t.Fatal(err)
				}
			}
			p := open(t, Config{Names: s})
			c := attach(t, path)
			p.end(t, p.play(t, "mixed", "500"))
			want := ""
			for i := range 500 {
				want += fmt.Sprintln(i)
			}
			if got := c.All(t); got != want {
				t.Errorf("%d bytes in another order, want %d", len(got), len(want))
			}

			p = open(t, Config{Names: s, Limits: patient()})
			p.end(t, p.play(t, "exit", "0"))
			for _, r := range p.all() {
				if wait.Until(short().Linger/8, isClosed(r.sink.w)) {
					t.Error("closed, though its client has not come yet")
				}
			}
			if got := attach(t, path).All(t); got != "" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// waitsIn reports whether a goroutine is in the named function.
func waitsIn(function string) bool {
	buf := make([]byte, 1<<20)
	return strings.Contains(string(buf[:runtime.Stack(buf, true)]), ")."+function+"(")
}
