// SPDX-License-Identifier: Apache-2.0

// Package proctest is what the tests of proc and of its packages share: the
// child process, clients of FIFOs, and a census of what is left behind.
package proctest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/internal/testmain"
	"containerd-shim.v1/reaper"

	"golang.org/x/sys/unix"
)

var (
	// Child is the binary of internal/child, built by Main.
	Child string
	// RuntimeDir is where go-runc makes its sockets and specs.
	RuntimeDir string
	// One of each for the test process, so that -count works.
	Reaper  *reaper.Reaper
	Monitor *reaper.Monitor
)

// Patience bounds what must happen soon.
const Patience = 10 * time.Second

// Main is a TestMain. It does not return. Every exit that has an owner is given
// to record, as the supervisor does; record may be nil.
func Main(m *testing.M, record func(reaper.Exit)) {
	var dir string
	Child, dir = testmain.Build("containerd-shim.v1/proc/internal/child")
	RuntimeDir = filepath.Join(dir, "run")
	for _, err := range []error{os.Mkdir(RuntimeDir, 0o700), os.Setenv("XDG_RUNTIME_DIR", RuntimeDir), reaper.SetSubreaper()} {
		testmain.Must(err)
	}
	Reaper = reaper.New(reaper.StartForker())
	Monitor = reaper.NewMonitor(Reaper, reaper.DefaultLimits())
	if r, w, err := os.Pipe(); err == nil { // the poller's own descriptors come now
		_, _ = r.Close(), w.Close() // only for that
	}
	ctx, cancel := context.WithCancel(context.Background())
	recorded := make(chan struct{})
	sub := Reaper.Subscribe() // before the first test, whose exits would be lost
	go func() {
		defer close(recorded)
		defer sub.Close()
		for e, err := sub.Next(ctx); err == nil; e, err = sub.Next(ctx) {
			if record != nil && e.Owner != nil {
				record(e)
			}
		}
	}()
	status := m.Run()
	cancel()
	<-recorded
	Reaper.Close()
	testmain.End(status, dir, nil)
}

// Within fails the test if c is not closed in time.
func Within(t *testing.T, limit time.Duration, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(limit):
		buf := make([]byte, 1<<20)
		t.Fatalf("%s: not within %v\n%s", what, limit, buf[:runtime.Stack(buf, true)])
	}
}

// Census checks at the end of the test that descriptors, goroutines, children
// and files are as they were. It is to be called first.
func Census(t *testing.T) {
	t.Helper()
	fds, goroutines := Descriptors(), runtime.NumGoroutine()
	t.Cleanup(func() {
		var why string
		if wait.Until(Patience, func() bool { why = difference(fds, goroutines); return why == "" }) {
			return
		}
		buf := make([]byte, 1<<20)
		t.Errorf("left behind: %s\n%s", why, buf[:runtime.Stack(buf, true)])
	})
}

func difference(fds []string, goroutines int) string {
	if now := Descriptors(); len(now) > len(fds) {
		return fmt.Sprintf("descriptors, from %v to %v", fds, now)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		return fmt.Sprintf("%d goroutines, were %d", now, goroutines)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != unix.ECHILD {
		return fmt.Sprintf("children (%v)", err)
	}
	if files, err := os.ReadDir(RuntimeDir); err != nil || len(files) > 0 {
		return fmt.Sprintf("files %v, %v", files, err)
	}
	return ""
}

// Descriptors lists this process's open files.
func Descriptors() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		testmain.Must(err)
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

// FIFO makes a FIFO in a directory of its own.
func FIFO(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Client is the other side of an output FIFO.
type Client struct {
	f    *os.File
	done chan struct{} // closed at the end of the stream

	mu   sync.Mutex
	data []byte // guarded by mu
}

// Attach opens path as a client does and reads it to its end. The open itself
// fails the test if nobody writes there.
func Attach(t *testing.T, path string) *Client {
	t.Helper()
	return Read(OpenFIFO(t, path, os.O_RDONLY))
}

func (c *Client) read() {
	defer close(c.done)
	defer c.f.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := c.f.Read(buf)
		c.mu.Lock()
		c.data = append(c.data, buf[:n]...)
		c.mu.Unlock()
		if err != nil {
			return // one that is not the end shows as missing data
		}
	}
}

// Text returns what has come so far.
func (c *Client) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.data)
}

// All returns what came until the end.
func (c *Client) All(t *testing.T) string {
	t.Helper()
	Within(t, Patience, "end of the output", c.done)
	return c.Text()
}

// Ended reports whether the stream has ended.
func (c *Client) Ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// OpenFIFO opens a FIFO that the other side must have open already, or soon.
func OpenFIFO(t *testing.T, path string, flag int) *os.File {
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
	case <-time.After(Patience):
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

// Read reads f, which is read to its end, as a client does.
func Read(f *os.File) *Client {
	c := &Client{f: f, done: make(chan struct{})}
	go c.read()
	return c
}

// Stdio gives cmd files as its stdio; without any it has /dev/null.
func Stdio(cmd *exec.Cmd, files []*os.File) {
	if files != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	}
}

// Start starts Child in a role, with files as its stdio. It is killed at the end
// of the test.
func Start(t *testing.T, files []*os.File, role ...string) *reaper.Child {
	t.Helper()
	ticket := Reaper.Begin()
	defer ticket.Close()
	cmd := exec.Command(Child, role...)
	Stdio(cmd, files)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	child, err := ticket.Claim(cmd.Process.Pid, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Release() // the reaper waits for it
	t.Cleanup(func() { End(child) })
	return child
}

// End kills a child that is still alive and waits for its exit.
func End(c *reaper.Child) {
	_ = c.Signal(unix.SIGKILL) // it may be dead already
	select {
	case <-c.Done():
	case <-time.After(Patience):
	}
}

// LoggerURI names internal/child in the role of a logger.
func LoggerURI(mode, file string) string {
	uri := "binary://" + Child + "?logger&" + mode
	if file != "" {
		uri += "=" + url.QueryEscape(file)
	}
	return uri
}
