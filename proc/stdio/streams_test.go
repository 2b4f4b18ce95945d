// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/proc/internal/proctest"
	"containerd-shim.v1/reaper"

	"golang.org/x/sys/unix"
)

// play opens the streams, and has a child play role on them to its end or
// until the test's.
func play(t *testing.T, c Config, role ...string) (*Streams, *reaper.Child) {
	t.Helper()
	p := open(t, c)
	return p, p.play(t, role...)
}

func open(t *testing.T, c Config) *Streams {
	t.Helper()
	c.Monitor = proctest.Monitor
	if c.Limits == (Limits{}) {
		c.Limits = short()
	}
	p, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.HoldInput(); err != nil {
		t.Fatal(err)
	}
	return p
}

// play starts the process. Its end is followed by what the shim does then.
func (s *Streams) play(t *testing.T, role ...string) *reaper.Child {
	t.Helper()
	if s.console != nil {
		role = append([]string{"tty", s.console.socket.Path()}, role...)
	}
	defer s.RuntimeReturned()
	child := proctest.Start(t, s.ChildFiles(), role...)
	if err := s.AwaitConsole(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Started()
	return child
}

// end waits for the process and does what RecordExit and Delete do.
func (s *Streams) end(t *testing.T, child *reaper.Child) {
	t.Helper()
	within(t, patience, "exit", child.Done())
	s.ProcessExited()
	s.AwaitOutput(short().Drain)
	s.ProcessDeleted()
}

// B26: any of the streams may be missing, and is /dev/null then.
func TestAnySubsetOfStreams(t *testing.T) {
	for set := range 8 {
		t.Run(fmt.Sprintf("%03b", set), func(t *testing.T) {
			census(t)
			var s Names
			want := ""
			for fd, name := range []*string{&s.Stdin, &s.Stdout, &s.Stderr} {
				kind := "/dev/null"
				if set>>fd&1 == 1 {
					*name, kind = fifo(t), "other"
				}
				want += fmt.Sprintf("%d %s\n", fd, kind)
			}
			p := open(t, Config{Names: s})
			report := filepath.Join(t.TempDir(), "report")
			child := p.play(t, "stdio", report)
			var clients []*proctest.Client
			for _, path := range []string{s.Stdout, s.Stderr} {
				if path != "" {
					clients = append(clients, attach(t, path))
				}
			}
			p.end(t, child)
			for _, c := range clients {
				c.All(t)
			}
			got, err := os.ReadFile(report)
			if err != nil || string(got) != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		})
	}
}

// A client that comes only after the process has ended, or was deleted, still
// gets all of the output, and its end.
func TestLateReaderGetsEverything(t *testing.T) {
	for _, when := range []string{"exited", "deleted"} {
		t.Run(when, func(t *testing.T) {
			census(t)
			path := fifo(t)
			p, child := play(t, Config{Names: Names{Stdout: path}, Limits: patient()}, "out", "50000", "0")
			within(t, patience, "exit", child.Done())
			p.ProcessExited()
			if when == "deleted" {
				p.AwaitOutput(short().Drain)
				p.ProcessDeleted()
			}
			if got := attach(t, path).All(t); len(got) != 50000 {
				t.Errorf("%d bytes, want 50000", len(got))
			}
			p.ProcessDeleted()
		})
	}
}

// B13: a reader that is slow, or starts after Delete, gets every byte of
// more than fits the FIFO. Lines of 64 bytes fill at least half of a pipe's 64 KiB
// (see fragments), so that 90000 of them need no reader to be written.
func TestSlowReaderLosesNoByte(t *testing.T) {
	census(t)
	path := fifo(t)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, child := play(t, Config{Names: Names{Stdout: path}}, "out", "90000", "0")
	p.end(t, child)
	select {
	case <-p.drained:
		t.Fatal("90000 bytes fit the FIFO: the test tests nothing")
	case <-time.After(short().Linger + 500*time.Millisecond): // no condition: nothing is to happen
	}
	if got := proctest.Read(f).All(t); len(got) != 90000 {
		t.Errorf("%d bytes, want 90000", len(got))
	}
}

// B12: a process left behind holds the output: Delete is bounded, the output
// ends for the client, and nothing stays.
func TestBackgroundHolder(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		t.Run(fmt.Sprintf("terminal %v", terminal), func(t *testing.T) {
			census(t)
			path := fifo(t)
			p := open(t, Config{Names: Names{Stdout: path, Terminal: terminal}})
			c := attach(t, path)
			child := p.play(t, "hold")
			start := time.Now()
			p.end(t, child)
			if d := time.Since(start); d > short().Drain+2*time.Second {
				t.Errorf("drained after %v, want %v", d, short().Drain)
			}
			var holder int
			if _, err := fmt.Sscan(c.All(t), &holder); err != nil {
				t.Fatal(err)
			}
			_ = unix.Kill(holder, unix.SIGKILL) // a hung-up terminal has killed it
		})
	}
}

// A terminal ends for the client with the process that it is for, whoever else has it
// open, though nothing is deleted: `docker exec -it c sh`, then `server &` and `exit`.
// docker up to 18.09 deletes an exec, and handles later events of the container, only
// once its output has ended. A pipe ends after the deletion, however much flows.
func TestOutputOfAJobThatWasLeft(t *testing.T) {
	for name, tt := range map[string]struct {
		terminal bool
		job      string
	}{
		"terminal, quiet":     {true, "sleep"},
		"terminal, it writes": {true, "chat"},
		"pipe, it writes":     {false, "chat"},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			path := fifo(t)
			p := open(t, Config{Names: Names{Stdout: path, Terminal: tt.terminal}})
			c := attach(t, path)
			child := p.play(t, "background", tt.job)
			within(t, patience, "exit", child.Done())
			p.ProcessExited()
			if !tt.terminal {
				p.AwaitOutput(short().Drain)
				p.ProcessDeleted()
			}
			var job int
			if _, err := fmt.Sscan(c.All(t), &job); err != nil {
				t.Fatal(err)
			}
			_ = unix.Kill(job, unix.SIGKILL) // it may have seen the end itself
			p.ProcessDeleted()
		})
	}
}

// B27: what is written before anybody reads, and before the runtime has
// returned, does not stop the writer while it fits the pipe and the FIFO, and
// not at all with a client.
func TestRuntimeOutputBeforeItReturns(t *testing.T) {
	census(t)
	path := fifo(t)
	p, child := play(t, Config{Names: Names{Stderr: path}}, "out", "0", "90000")
	within(t, patience, "90 kB without a client", child.Done())
	p.ProcessExited()
	if got := attach(t, path).All(t); len(got) != 90000 {
		t.Errorf("%d bytes, want 90000", len(got))
	}
	p.ProcessDeleted()

	path = fifo(t)
	p = open(t, Config{Names: Names{Stderr: path}})
	c := attach(t, path)
	p.end(t, p.play(t, "out", "0", "1048576"))
	if got := c.All(t); len(got) != 1<<20 {
		t.Errorf("%d bytes, want 1 MiB", len(got))
	}
}

// B53: both streams in one file, and stdout ends first.
func TestOneFileForBothStreams(t *testing.T) {
	for _, form := range []string{"uri", "path"} {
		t.Run(form, func(t *testing.T) {
			census(t)
			path := filepath.Join(t.TempDir(), "made", "log")
			s := Names{Stdout: "file://" + path}
			if form == "path" {
				s = Names{Stdout: path, Stderr: path}
				if err := makeLogFile(path); err != nil {
					t.Fatal(err)
				}
			}
			p, child := play(t, Config{Names: s}, "two")
			p.end(t, child)
			got, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(got), "one\n") || !strings.Contains(string(got), "two\n") {
				t.Errorf("the file has %q, %v, want both lines", got, err)
			}
		})
	}
}

// A client that goes away and comes back, as a daemon that is restarted, loses
// nothing of what is written meanwhile, and the process does not notice.
func TestReaderGoesAwayAndComesBack(t *testing.T) {
	census(t)
	in, out := fifo(t), fifo(t)
	p, child := play(t, Config{Names: Names{Stdin: in, Stdout: out}}, "cat")
	w := openFifo(t, in, os.O_WRONLY)
	for _, word := range []string{"first\n", "while away\n"} {
		r := openFifo(t, out, os.O_RDONLY)
		if word != "first\n" { // the client of before has gone, and this one is late
			if _, err := w.WriteString("last\n"); err != nil {
				t.Fatal(err)
			}
			word += "last\n"
		} else if _, err := w.WriteString(word); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(word))
		_ = r.SetReadDeadline(time.Now().Add(patience)) // fails only if closed
		for n := 0; n < len(got); {
			m, err := r.Read(got[n:])
			if n += m; err != nil {
				t.Fatalf("read %q: %v", got[:n], err)
			}
		}
		if string(got) != word {
			t.Errorf("got %q, want %q", got, word)
		}
		_ = r.Close() // the client goes
		if word == "first\n" {
			if _, err := w.WriteString("while away\n"); err != nil {
				t.Fatal(err)
			}
			if !wait.Until(patience, func() bool { return p.all()[0].sink.unread() == len("while away\n") }) {
				t.Fatal("the output does not wait in the FIFO")
			}
		}
	}
	select {
	case <-child.Done():
		t.Fatalf("the process died of it: %+v", child.Wait())
	default:
	}
	_ = w.Close()
	p.CloseInput()
	p.end(t, child)
}

// A FIFO that was removed is not waited for: nobody can come any more.
func TestAbandonedFIFO(t *testing.T) {
	census(t)
	path := fifo(t)
	p, child := play(t, Config{Names: Names{Stdout: path}, Limits: patient()}, "out", "10", "0")
	within(t, patience, "exit", child.Done())
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p.ProcessExited()
	out := p.all()[0].sink
	if !wait.Until(patience/2, func() bool { _, err := out.w.Stat(); return err != nil }) {
		t.Error("not closed at once")
	}
	p.ProcessDeleted()
}

// A client that never comes is waited for only so long.
func TestReaderNeverComes(t *testing.T) {
	for _, size := range []string{"0", "10", "200000"} {
		t.Run(size, func(t *testing.T) {
			census(t)
			p, child := play(t, Config{Names: Names{Stdout: fifo(t)}}, "out", size, "0")
			if size == "200000" { // it cannot end by itself
				_ = child.Signal(unix.SIGKILL)
			}
			p.end(t, child)
			out := p.all()[0].sink
			if !wait.Until(short().Linger+patience, func() bool { _, err := out.w.Stat(); return err != nil }) {
				t.Error("still waiting for it")
			}
		})
	}
}

// An exec whose client has died, and which nobody deletes, keeps no FIFO open
// for its end alone; what is unread is kept until Delete.
func TestEndThatNobodyComesFor(t *testing.T) {
	for name, tt := range map[string]struct {
		size  string
		comes bool
		kept  bool
	}{
		"nothing written, no client": {"0", false, false},
		"all read, client gone":      {"64", true, false},
		"unread":                     {"64", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			path := fifo(t)
			p := open(t, Config{Names: Names{Stdout: path}})
			r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			child := p.play(t, "out", tt.size, "0")
			if tt.comes {
				if n, err := r.Read(make([]byte, 64)); n != 64 || err != nil {
					t.Fatal(n, err)
				}
			}
			_ = r.Close()
			within(t, patience, "exit", child.Done())
			p.ProcessExited()
			within(t, patience, "end of the output", p.drained)
			if wait.Until(2*short().Linger, isClosed(p.all()[0].sink.w)) == tt.kept {
				t.Errorf("kept open: %v, want %v", !tt.kept, tt.kept)
			}
			p.ProcessDeleted()
		})
	}
}
