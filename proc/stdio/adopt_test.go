// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc/internal/proctest"

	"golang.org/x/sys/unix"
)

// lackPoller has the poller refuse each file of this name, or of any if that is empty,
// n times, as it does in a memory cgroup that is full.
func lackPoller(t *testing.T, name string, n int) {
	real, refused := inPoller, make(map[string]int)
	t.Cleanup(func() { inPoller = real })
	inPoller = func(f *os.File) error {
		if refused[f.Name()]++; strings.HasSuffix(f.Name(), name) && refused[f.Name()] <= n {
			return &fs.PathError{Op: "epoll_ctl", Path: f.Name(), Err: unix.ENOSPC}
		}
		return real(f)
	}
}

// inherited returns f's descriptor as a program has it that was executed in place, and
// closes f.
func inherited(t *testing.T, f *os.File) state.FD {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return state.FD(fd)
}

func inheritedFIFO(t *testing.T, path string, flag int) state.FD {
	t.Helper()
	f, err := os.OpenFile(path, flag|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return inherited(t, f)
}

func terminal(t *testing.T) (master, process *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	if err == nil {
		process, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = master.Close(), process.Close() }) // closed by then
	return master, process
}

// saved are the streams of a process that is alive: process is its end of them.
type saved struct {
	state.Streams
	in, out string // the clients' FIFOs; empty without one
	process *os.File
}

// save makes streams of this kind. With "begun" before it, the start that was underway had
// yet to open the client's end.
func save(t *testing.T, kind string) *saved {
	t.Helper()
	s := &saved{}
	kind, begun := strings.CutPrefix(kind, "begun ")
	if kind != "input" {
		s.out = fifo(t)
		o := state.Output{Path: s.out, Kind: state.FIFO}
		if !begun {
			o.Keepalive = inheritedFIFO(t, s.out, os.O_RDONLY)
			o.To = inheritedFIFO(t, s.out, os.O_WRONLY)
		}
		s.Outputs = append(s.Outputs, o)
	}
	if kind != "output" {
		s.in = fifo(t)
		s.Input = &state.Input{Path: s.in}
		if !begun {
			s.Input.From = inheritedFIFO(t, s.in, os.O_RDONLY)
			s.Input.Keepalive = inheritedFIFO(t, s.in, os.O_WRONLY)
		}
	}
	switch r, w := (*os.File)(nil), (*os.File)(nil); kind {
	case "output":
		r, s.process = pipes(t)
		s.Outputs[0].From = inherited(t, r)
	case "input":
		s.process, w = pipes(t)
		s.Input.To = inherited(t, w)
	case "terminal":
		var master *os.File
		master, s.process = terminal(t)
		s.Terminal = inherited(t, master)
		s.Outputs[0].From = s.Terminal
	}
	_ = s.process.SetDeadline(time.Now().Add(patience)) // shows as an error
	return s
}

// TestAdoptWithoutMemory: streams that the poller does not take at once are taken later;
// meanwhile no descriptor of theirs is closed, or the process would be killed by what it
// writes, or see the end of its input or a hang-up.
func TestAdoptWithoutMemory(t *testing.T) {
	for _, kind := range []string{"output", "input", "terminal", "begun output", "begun input"} {
		t.Run(kind, func(t *testing.T) {
			census(t)
			st := save(t, kind)
			lackPoller(t, "", 3)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s := Adopt(ctx, Config{Limits: short()}, &st.Streams, nil)
			defer s.ProcessDeleted()
			if st.in != "" {
				client := openFifo(t, st.in, os.O_WRONLY)
				if _, err := client.WriteString("typed\n"); err != nil {
					t.Error(err)
				}
				got := make([]byte, 100)
				if n, err := st.process.Read(got); err != nil || string(got[:n]) != "typed\n" {
					t.Errorf("the process reads %q, %v", got[:n], err)
				}
			}
			if st.out != "" {
				if _, err := st.process.WriteString("hello\n"); err != nil {
					t.Errorf("the process writes: %v", err)
				}
				client := attach(t, st.out)
				if !wait.Until(patience, func() bool { return strings.Contains(client.Text(), "hello") }) {
					t.Errorf("the client has read %q", client.Text())
				}
			}
			_ = st.process.Close() // it ends
		})
	}
}

// TestAdoptWithoutMemoryForGood: what is given up is closed at both ends: nothing is left
// open that nobody serves, which would hold up the process or the client for ever.
func TestAdoptWithoutMemoryForGood(t *testing.T) {
	for _, c := range []struct{ kind, lacking string }{
		{"output", "pipe"}, {"output", "fifo"}, {"input", "pipe"}, {"input", "fifo"},
		{"terminal", "console"}, {"terminal", "fifo"}, {"begun output", "fifo"}, {"begun input", "fifo"},
	} {
		t.Run(c.kind+" without its "+c.lacking, func(t *testing.T) {
			census(t)
			st := save(t, c.kind)
			lackPoller(t, c.lacking, 1<<30)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			s := Adopt(ctx, Config{Limits: short()}, &st.Streams, nil)
			defer s.ProcessDeleted()
			if strings.HasSuffix(c.kind, "output") {
				if _, err := st.process.WriteString("hello"); !errors.Is(err, unix.EPIPE) {
					t.Errorf("the process writes: %v, want EPIPE", err)
				}
			} else if n, err := st.process.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, unix.EIO) {
				t.Errorf("the process reads %d bytes, %v, want the end", n, err)
			}
			_ = st.process.Close() // it ends
		})
	}
}

// TestAdoptSlowlyRead: what an exec has left behind wrote more than its client had read when
// the program was exchanged, long after the exec's deletion. It is not cut off.
func TestAdoptSlowlyRead(t *testing.T) {
	census(t)
	st := save(t, "output")
	st.Deleted, st.Outputs[0].Moved = time.Now().Add(-time.Hour), time.Now()
	client, err := os.OpenFile(st.out, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	before := 0
	for err == nil {
		var n int
		n, err = unix.Write(int(st.Outputs[0].To), make([]byte, page))
		before += max(0, n)
	}
	if _, err := st.process.WriteString("one\n"); err != nil {
		t.Fatal(err)
	}
	Adopt(t.Context(), Config{Limits: patient()}, &st.Streams, nil)
	broken := false
	if !wait.Until(patience, func() bool {
		control(st.process, func(fd int) { broken = pollNow(fd, 0)&unix.POLLERR != 0 })
		return broken || waitsIn("awaitRoom")
	}) || broken {
		t.Errorf("the client is not waited for; broken: %v", broken)
	}
	if _, err := st.process.WriteString("two\n"); err != nil {
		t.Errorf("it writes: %v", err)
	}
	_ = st.process.Close() // it ends
	if got := proctest.Read(client).All(t); len(got) != before+8 || !strings.HasSuffix(got, "one\ntwo\n") {
		t.Errorf("the client has read %d bytes, want %d", len(got), before+8)
	}
}
