// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"containerd-shim/internal/poll"
	"containerd-shim/reaper"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

var (
	// childBinary is internal/child, built by TestMain.
	childBinary string
	// runtimeDir is where go-runc makes its sockets and specs.
	runtimeDir string
	// One of each for the test process, so that -count works.
	testReaper  *reaper.Reaper
	testMonitor *reaper.Monitor
)

// patience bounds what must happen soon.
const patience = 10 * time.Second

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "proc")
	if err != nil {
		fail(err)
	}
	childBinary = filepath.Join(dir, "child")
	build := exec.Command("go", "build", "-o", childBinary, "./internal/child")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fail(err)
	}
	runtimeDir = filepath.Join(dir, "run")
	if err := errorOr(os.Mkdir(runtimeDir, 0o700), os.Setenv("XDG_RUNTIME_DIR", runtimeDir), reaper.SetSubreaper()); err != nil {
		fail(err)
	}
	// The real times are for people and daemons; their order stays.
	drainTick, drainHeld, drainSlow, heldGrace, lateReader =
		10*time.Millisecond, 200*time.Millisecond, 800*time.Millisecond, time.Second, 2*time.Second
	inputGrace, consoleWait = time.Second, time.Second
	loggerReady, loggerEnd, loggerTerm = 500*time.Millisecond, 500*time.Millisecond, 200*time.Millisecond
	testReaper = reaper.New()
	testMonitor = reaper.NewMonitor(testReaper)
	if r, w, err := os.Pipe(); err == nil { // the poller's own descriptors come now
		_, _ = r.Close(), w.Close() // only for that
	}
	code := m.Run()
	testReaper.Close()
	if err := goleak.Find(goleak.IgnoreAnyFunction("os/signal.loop")); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func reaperExit(status int) reaper.Exit {
	return reaper.Exit{Pid: 4711, Status: status, At: time.Now()}
}

// within fails the test if c is not closed in time.
func within(t *testing.T, limit time.Duration, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(limit):
		buf := make([]byte, 1<<20)
		t.Fatalf("%s: not within %v\n%s", what, limit, buf[:runtime.Stack(buf, true)])
	}
}

// census checks at the end of the test that descriptors, goroutines, children
// and files are as they were. It is to be called first.
func census(t *testing.T) {
	t.Helper()
	fds, goroutines := descriptors(), runtime.NumGoroutine()
	t.Cleanup(func() {
		var why string
		if poll.Until(patience, func() bool { why = difference(fds, goroutines); return why == "" }) {
			return
		}
		buf := make([]byte, 1<<20)
		t.Errorf("left behind: %s\n%s", why, buf[:runtime.Stack(buf, true)])
	})
}

func difference(fds []string, goroutines int) string {
	if now := descriptors(); len(now) > len(fds) {
		return fmt.Sprintf("descriptors, from %v to %v", fds, now)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		return fmt.Sprintf("%d goroutines, were %d", now, goroutines)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != unix.ECHILD {
		return fmt.Sprintf("children (%v)", err)
	}
	if files, err := os.ReadDir(runtimeDir); err != nil || len(files) > 0 {
		return fmt.Sprintf("files %v, %v", files, err)
	}
	return ""
}

// descriptors lists this process's open files.
func descriptors() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		fail(err)
	}
	var all []string
	for _, e := range entries {
		if name, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(name, "/proc/") {
			all = append(all, e.Name()+":"+name)
		}
	}
	slices.Sort(all)
	return all
}

// fifo makes a FIFO in a directory of its own.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// client is the other side of an output FIFO.
type client struct {
	f    *os.File
	data []byte
	done chan struct{} // closed at the end of the stream, after data was set
}

// attach opens path as a client does and reads it to its end. The open itself
// fails the test if nobody writes there.
func attach(t *testing.T, path string) *client {
	t.Helper()
	c := &client{f: openFifo(t, path, os.O_RDONLY), done: make(chan struct{})}
	go c.read()
	return c
}

func (c *client) read() {
	defer close(c.done)
	defer c.f.Close()
	c.data, _ = io.ReadAll(c.f) // an error shows as missing data
}

// all returns what came until the end.
func (c *client) all(t *testing.T) string {
	t.Helper()
	within(t, patience, "end of the output", c.done)
	return string(c.data)
}

// openFifo opens a FIFO that the other side must have open already, or soon.
func openFifo(t *testing.T, path string, flag int) *os.File {
	t.Helper()
	opened := make(chan struct{})
	var f *os.File
	var err error
	go func() {
		defer close(opened)
		f, err = os.OpenFile(path, flag, 0)
	}()
	select {
	case <-opened:
	case <-time.After(patience):
		// Let the goroutine go, and fail.
		if other, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
			defer other.Close()
			<-opened
		}
		t.Fatalf("open %s: nobody at the other side", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // most are closed by then
	return f
}
