// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/proc/internal/proctest"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// F3: the end of a terminal's input hangs it up although the client does not
// read, and the process does not either; what was written still arrives.
func TestHangUpWhileNobodyReads(t *testing.T) {
	for name, tt := range map[string]struct {
		role  []string
		typed int // lines
	}{
		"output is full":            {[]string{"out", "10000000", "0"}, 0},
		"input is full as well":     {[]string{"out", "10000000", "0"}, 100000},
		"nothing but input, full":   {[]string{"sleep"}, 100000},
		"the echo fills the output": {[]string{"cat"}, 100000},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			in, out := fifo(t), fifo(t)
			p := open(t, Config{Names: Names{Stdin: in, Stdout: out, Terminal: true}})
			r, err := os.OpenFile(out, os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			w := openFifo(t, in, os.O_WRONLY)
			child := p.play(t, tt.role...)
			if tt.role[0] == "out" && !wait.Until(patience, p.all()[0].sink.full) {
				t.Fatal("the output is not full")
			}
			if tt.typed > 0 {
				_ = w.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)) // fails only if closed
				if n, err := w.WriteString(strings.Repeat("x\n", tt.typed)); err == nil {
					t.Fatalf("%d bytes fit the input", n)
				}
			}
			_ = w.Close() // the client goes
			start := time.Now()
			p.CloseInput()
			within(t, patience, "hang-up", child.Done())
			if d := time.Since(start); d > short().Stubborn+time.Second {
				t.Errorf("hung up after %v, want it within %v", d, short().Stubborn)
			}
			p.ProcessExited()
			held := p.all()[0].sink.unread()
			if got := proctest.Read(r).All(t); len(got) < held || tt.role[0] == "out" && len(got) == held {
				t.Errorf("%d bytes arrive, the FIFO had %d", len(got), held)
			}
			p.ProcessDeleted()
		})
	}
}

// A hang-up that comes before the start has succeeded is not forgotten.
func TestHangUpBeforeStarted(t *testing.T) {
	census(t)
	in, out := fifo(t), fifo(t)
	p := open(t, Config{Names: Names{Stdin: in, Stdout: out, Terminal: true}})
	c := attach(t, out)
	_ = openFifo(t, in, os.O_WRONLY).Close() // the client comes, and goes
	p.CloseInput()
	child := proctest.Start(t, nil, "tty", p.console.socket.Path(), "sleep")
	if err := p.AwaitConsole(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.RuntimeReturned()
	o := p.all()[0]
	if !wait.Until(patience, func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.orders.hungUp }) {
		t.Fatal("the end of the input was not noticed")
	}
	p.Started()
	within(t, patience, "hang-up", child.Done())
	p.end(t, child)
	c.All(t)
}

// full reports whether the FIFO takes no more.
func (s *sink) full() (full bool) {
	control(s.w, func(fd int) { full = pollNow(fd, unix.POLLOUT)&unix.POLLOUT == 0 })
	return full
}

// tmpfs mounts one of the given size and returns how to change it.
func tmpfs(t *testing.T, size string) (dir string, resize func(string)) {
	t.Helper()
	dir = t.TempDir()
	mount := func(size string, flags uintptr) {
		if err := unix.Mount("tmpfs", dir, "tmpfs", flags, "size="+size); err != nil {
			t.Fatal(err)
		}
	}
	mount(size, 0)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, func(size string) { mount(size, unix.MS_REMOUNT) }
}

// F8: a full disk below a file:// target is a full pipe: the process waits,
// does not die of SIGPIPE, and nothing is lost.
func TestFullDiskLosesNothing(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		census(t)
		dir, resize := tmpfs(t, "64k")
		path := filepath.Join(dir, "log")
		p, child := play(t, Config{Names: Names{Stdout: "file://" + path, Terminal: terminal}}, "out", "300032", "0")
		if !wait.Until(patience, func() bool { st, err := os.Stat(path); return err == nil && st.Size() == 64<<10 }) {
			t.Fatal("the disk is not full")
		}
		select {
		case <-child.Done():
			t.Errorf("terminal %v: the process ended: %+v", terminal, child.Wait())
		case <-time.After(100 * time.Millisecond): // no condition: nothing is to happen
		}
		resize("1m")
		p.end(t, child)
		if e := child.Wait(); e.Status != 0 {
			t.Errorf("terminal %v: status %d", terminal, e.Status)
		}
		within(t, patience, "end of the output", p.drained)
		got, err := os.ReadFile(path)
		if err != nil || strings.ReplaceAll(string(got), "\r", "") != strings.Repeat(line, 300032/len(line)) {
			t.Errorf("terminal %v: %d bytes, %v, want 300032 as they were written", terminal, len(got), err)
		}
	}
}

// line is what the role "out" writes.
var line = strings.Repeat("0", 62) + "7\n"

// F3, F8: not even a full disk holds up the hang-up.
func TestHangUpWithAFullDisk(t *testing.T) {
	census(t)
	dir, resize := tmpfs(t, "64k")
	path, in := filepath.Join(dir, "log"), fifo(t)
	p := open(t, Config{Names: Names{Stdin: in, Stdout: "file://" + path, Terminal: true}})
	w := openFifo(t, in, os.O_WRONLY)
	child := p.play(t, "out", "10000000", "0")
	if !wait.Until(patience, func() bool { st, err := os.Stat(path); return err == nil && st.Size() == 64<<10 }) {
		t.Fatal("the disk is not full")
	}
	_ = w.Close() // the client goes
	start := time.Now()
	p.CloseInput()
	within(t, patience, "hang-up", child.Done())
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("hung up after %v", d)
	}
	resize("1m")
	p.end(t, child)
	within(t, patience, "end of the output", p.drained)
	if st, err := os.Stat(path); err != nil || st.Size() <= 64<<10 {
		t.Errorf("%v, %v: what was read of the terminal is lost", st, err)
	}
}

// F8: after Delete nobody waits for ever for a disk that stays full.
func TestFullDiskAfterDelete(t *testing.T) {
	census(t)
	dir, _ := tmpfs(t, "64k")
	p, child := play(t, Config{Names: Names{Stdout: "file://" + filepath.Join(dir, "log")}}, "out", "100000", "0")
	within(t, patience, "exit", child.Done()) // the rest is in the pipe
	start := time.Now()
	p.end(t, child)
	within(t, patience, "end of the output", p.drained)
	if d := time.Since(start); d < short().Linger {
		t.Errorf("given up after %v, want %v", d, short().Linger)
	}
}

// F12: at the limit of open files the client is not at fault, and nothing stays.
func TestOpenAtTheLimitOfFiles(t *testing.T) {
	names := Names{Stdin: fifo(t), Stdout: fifo(t), Stderr: fifo(t)}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }() // it was so before
	for _, terminal := range []bool{false, true} {
		census(t)
		names.Terminal = terminal
		failed := 0
		for most := uint64(3); ; most++ { // of the number of a descriptor
			limit := old
			limit.Cur = most
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				t.Fatal(err)
			}
			p, err := Open(Config{Names: names, Limits: short()})
			if err == nil {
				err = p.HoldInput()
				p.Abort()
			}
			if rerr := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); rerr != nil {
				t.Fatal(rerr)
			}
			if err == nil {
				break
			}
			failed++
			if !errdefs.IsResourceExhausted(err) || errdefs.IsInvalidArgument(err) {
				t.Errorf("terminal %v: a limit of %d descriptors: %v, want ResourceExhausted", terminal, most, err)
			}
		}
		if failed < 4 {
			t.Errorf("terminal %v: failed only %d times: the test tests nothing", terminal, failed)
		}
	}
}

// F13: a stdin that is a file ends by itself.
func TestStdinThatIsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{path: 100, os.DevNull: 0} {
		census(t)
		p, child := play(t, Config{Names: Names{Stdin: name}}, "count")
		within(t, patience, "exit", child.Done())
		if got := child.Wait().Status; got != want {
			t.Errorf("%s: the process read %d bytes, want %d", name, got, want)
		}
		p.CloseInput()
		p.end(t, child)
	}
}

// F15: a client that has the output open and does not read it delays Delete by
// little; it may read the rest afterwards, or go.
func TestClientDoesNotRead(t *testing.T) {
	for _, reads := range []bool{true, false} {
		census(t)
		path := fifo(t)
		r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		p, child := play(t, Config{Names: Names{Stdout: path}}, "out", "90000", "0")
		within(t, patience, "exit", child.Done())
		p.ProcessExited()
		start := time.Now()
		p.AwaitOutput(patience)
		if d := time.Since(start); d < short().Drain || d > short().Drain+time.Second {
			t.Errorf("waited for %v, want %v", d, short().Drain)
		}
		p.ProcessDeleted()
		if reads {
			if got := proctest.Read(r).All(t); len(got) != 90000 {
				t.Errorf("%d bytes, want 90000", len(got))
			}
		}
		_ = r.Close()
		within(t, patience, "end of the output", p.drained)
	}
}

// F23: what is written before a start has failed goes into the error and not to
// the client, whether a process holds the pipes or not.
func TestRuntimeOutput(t *testing.T) {
	for name, role := range map[string][]string{
		"exited": {"out", "128", "128"}, "held open": {"hold"}, "nothing": {"exit", "1"}, "no runtime": nil,
		"almost a pipe": {"out", "0", "64000"},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			out, errs := fifo(t), fifo(t)
			p := open(t, Config{Names: Names{Stdout: out, Stderr: errs}})
			clients := []*proctest.Client{attach(t, out), attach(t, errs)}
			if role != nil {
				child := proctest.Start(t, p.ChildFiles(), role...)
				p.RuntimeReturned()
				within(t, patience, "exit", child.Done())
			}
			start := time.Now()
			got := p.RuntimeOutput()
			if d := time.Since(start); d > time.Second {
				t.Errorf("took %v", d)
			}
			switch name {
			case "exited":
				if got != line+line {
					t.Errorf("got %q", got)
				}
			case "held open":
				var holder int
				if _, err := fmt.Sscan(got, &holder); err != nil {
					t.Errorf("got %q", got)
				}
				defer func() { _ = unix.Kill(holder, unix.SIGKILL) }()
			case "almost a pipe":
				if got != strings.Repeat(line, maxWords/len(line)) {
					t.Errorf("got %d bytes, want the last %d", len(got), maxWords)
				}
			default:
				if got != "" {
					t.Errorf("got %q", got)
				}
			}
			p.Abort()
			for _, c := range clients {
				if got := c.All(t); got != "" {
					t.Errorf("the client got %d bytes", len(got))
				}
			}
		})
	}
}

// F23: what the process writes before its start is known to have succeeded
// reaches the client, complete and in order, and not a moment earlier unless
// it is more than can be kept back.
func TestOutputBeforeStarted(t *testing.T) {
	for _, size := range []int{64, 60032, 1 << 20} {
		census(t)
		path := fifo(t)
		p := open(t, Config{Names: Names{Stdout: path}})
		c := attach(t, path)
		child := proctest.Start(t, p.ChildFiles(), "out", fmt.Sprint(size), "0")
		p.RuntimeReturned()
		within(t, patience, "exit", child.Done())
		if size < holdLimit && wait.Until(50*time.Millisecond, func() bool { return c.Text() != "" }) {
			t.Errorf("%d bytes: %q before the start has succeeded", size, c.Text())
		}
		p.Started()
		p.end(t, child)
		if got := c.All(t); got != strings.Repeat(line, size/len(line)) {
			t.Errorf("%d bytes, want %d as they were written", len(got), size)
		}
	}
}

// A panic in the goroutine of an output leaves nothing open.
func TestPanicInAnOutput(t *testing.T) {
	census(t)
	path := fifo(t)
	p := open(t, Config{Names: Names{Stdout: path}})
	c := attach(t, path)
	o := p.all()[0]
	ended := o.closeSource
	o.closeSource = func() { ended(); panic(errors.New("boom")) }
	child := proctest.Start(t, p.ChildFiles(), "out", "64", "0")
	p.RuntimeReturned()
	p.Started()
	p.end(t, child)
	within(t, patience, "end of the output", p.drained)
	c.All(t)
}

// An output that is a terminal device, and so waits though it is no FIFO, is
// given up after Delete as well, and does not spin until then.
func TestDeviceThatTakesNoMore(t *testing.T) {
	census(t)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	n := 0
	control(master, func(fd int) {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
		n, _ = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	})
	if err != nil {
		t.Fatal(err)
	}
	p, child := play(t, Config{Names: Names{Stdout: fmt.Sprintf("/dev/pts/%d", n)}}, "out", "65536", "0")
	within(t, patience, "exit", child.Done()) // the rest is in the pipe
	p.end(t, child)
	// What it has taken of a write shows only when that is interrupted.
	within(t, 3*short().Linger, "end of the output", p.drained)
}

// Orders interrupt whatever an output does, and no byte is lost or doubled by it.
func TestOrdersLoseNothing(t *testing.T) {
	const size = 4 << 20
	for name, names := range map[string]Names{
		"splice": {}, "terminal": {Terminal: true},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			names.Stdout = fifo(t)
			p := open(t, Config{Names: names})
			c := attach(t, names.Stdout)
			child := p.play(t, "out", fmt.Sprint(size), "0")
			stop := make(chan struct{})
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Microsecond):
						p.order(orders{})
					}
				}
			}()
			within(t, 3*patience, "exit", child.Done())
			p.ProcessExited()
			within(t, patience, "end of the output", p.drained)
			close(stop)
			<-stopped
			p.ProcessDeleted()
			if got := strings.ReplaceAll(c.All(t), "\r", ""); got != strings.Repeat(line, size/len(line)) {
				t.Errorf("%d bytes, want %d as they were written", len(got), size)
			}
		})
	}
}
