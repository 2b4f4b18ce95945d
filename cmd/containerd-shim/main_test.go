// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/internal/stackdump"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"
)

// TestMain turns the test binary into the shim if SHIM_TEST_MAIN is set.
func TestMain(m *testing.M) {
	if os.Getenv("SHIM_TEST_MAIN") != "" {
		_ = os.Unsetenv("SHIM_TEST_MAIN") // not for its children
		version, revision = "1.2.3", "abc"
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// shimCmd returns the command of a shim in a bundle of its own.
func shimCmd(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "SHIM_TEST_MAIN=1", "CONTAINERD_SHIM_STACK_DIR="+filepath.Join(cmd.Dir, "stacks"))
	return cmd
}

func TestVersion(t *testing.T) {
	for _, flag := range []string{"-v", "--version"} {
		out, err := shimCmd(t, flag).Output()
		if err != nil || !strings.HasPrefix(string(out), "containerd-shim:\n  Version:  1.2.3\n  Revision: abc\n  Go version: go") {
			t.Errorf("%s: %q, %v", flag, out, err)
		}
	}
}

// TestSignalsAreTakenFirst: package early is initialised before the dependencies,
// whose initialisation takes milliseconds.
func TestSignalsAreTakenFirst(t *testing.T) {
	cmd := shimCmd(t, "-v")
	cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	early, others, found := strings.Cut(string(out), "init containerd-shim.v1/internal/early ")
	if err != nil || !found || strings.Contains(early, "init github.com/") || !strings.Contains(others, "init github.com/") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestStartErrors: each gives one line and status 1, and leaves nothing behind.
func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	used, err := net.Listen("unix", filepath.Join(dir, "used"))
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	a, b := pair(t)
	defer a.Close()
	defer b.Close()
	for _, c := range []struct {
		name  string
		args  []string
		fd3   *os.File
		words string
	}{
		{"no namespace", []string{"-socket", "x"}, nil, "namespace"},
		{"no fd 3", []string{"-namespace", "n"}, nil, "file descriptor 3"},
		{"fd 3 is a file", []string{"-namespace", "n"}, null, "file descriptor 3"},
		{"fd 3 does not listen", []string{"-namespace", "n"}, a, "file descriptor 3"},
		{"socket in use", []string{"-namespace", "n", "-socket", "unix://" + dir + "/used"}, nil, "in use"},
		{"no such directory", []string{"-namespace", "n", "-socket", "unix://" + dir + "/no/s"}, nil, "no such file"},
		{"path too long", []string{"-namespace", "n", "-socket", "unix:///" + strings.Repeat("x", 120)}, nil, "longer than 106"},
		{"name too long", []string{"-namespace", "n", "-socket", strings.Repeat("x", 120)}, nil, "longer than 106"},
		{"flag without value", []string{"-namespace"}, nil, "needs a value"},
	} {
		cmd := shimCmd(t, c.args...)
		cmd.Args = slices.Insert(cmd.Args, 1, "-workdir="+cmd.Dir)
		if c.fd3 != nil {
			cmd.ExtraFiles = []*os.File{c.fd3}
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		text := stderr.String()
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || strings.Count(text, "\n") != 1 ||
			!strings.HasPrefix(text, "containerd-shim: ") || !strings.Contains(text, c.words) {
			t.Errorf("%s: %v, stderr %q", c.name, err, text)
		}
		if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v, %v", c.name, left, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("in the directory of the socket in use: %v, %v", left, err)
	}
}

func pair(t *testing.T) (*os.File, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
}

// running is a shim that serves.
type running struct {
	*testing.T
	cmd    *exec.Cmd
	client api.ShimService
	ended  chan error
}

func startShim(t *testing.T, socket string, args ...string) *running {
	t.Helper()
	cmd := shimCmd(t, append([]string{"-namespace", "n", "-socket", socket}, args...)...)
	cmd.Args = append(cmd.Args, "-workdir="+cmd.Dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &running{T: t, cmd: cmd, ended: make(chan error, 1)}
	go func() { r.ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	path, isPath := strings.CutPrefix(socket, "unix://")
	if !isPath {
		path = "@" + socket
	}
	var conn net.Conn
	await(t, "a connection", func() (err error) { conn, err = net.Dial("unix", path); return err })
	c := ttrpc.NewClient(conn)
	t.Cleanup(func() { _ = c.Close() }) // its error is the shim's end
	r.client = api.NewShimClient(c)
	return r
}

func await(t *testing.T, what string, fn func() error) {
	t.Helper()
	var err error
	if !wait.Until(20*time.Second, func() bool { err = fn(); return err == nil }) {
		t.Fatalf("no %s: %v", what, err)
	}
}

func (r *running) info() error {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	resp, err := r.client.ShimInfo(ctx, &emptypb.Empty{})
	if err == nil && int(resp.ShimPid) != r.cmd.Process.Pid {
		err = fmt.Errorf("pid %d, want %d", resp.ShimPid, r.cmd.Process.Pid)
	}
	return err
}

func (r *running) signal(s unix.Signal) {
	r.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.Fatal(err)
	}
}

// end sends s, at which the shim must end with status 0.
func (r *running) end(s unix.Signal) {
	r.Helper()
	r.signal(s)
	select {
	case err := <-r.ended:
		if err != nil {
			r.Errorf("after %v: %v", s, err)
		}
	case <-time.After(20 * time.Second):
		r.Fatalf("%v does not end the shim", s)
	}
}

// TestSockets: an abstract socket, and one with a path, which only its owner may use
// (B60).
func TestSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, socket := range []string{"shim-test-" + fmt.Sprint(os.Getpid()), "unix://" + path} {
		r := startShim(t, socket)
		if err := r.info(); err != nil {
			t.Errorf("%s: %v", socket, err)
		}
		if strings.HasPrefix(socket, "unix://") {
			if st, err := os.Stat(path); err != nil || st.Mode() != os.ModeSocket|0o600 {
				t.Errorf("socket: %v, %v", st.Mode(), err)
			}
		}
		r.end(unix.SIGINT)
	}
}

// TestSignals is B31, and B30 for a shim without a container. A burst of SIGUSR1
// leaves a bounded number of complete dumps.
func TestSignals(t *testing.T) {
	r := startShim(t, "unix://"+filepath.Join(t.TempDir(), "s"), "-debug")
	for _, s := range []unix.Signal{unix.SIGHUP, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE, unix.SIGIO, unix.SIGCHLD} {
		r.signal(s)
		if err := r.info(); err != nil {
			t.Fatalf("after %v: %v", s, err)
		}
	}
	dir := filepath.Join(r.cmd.Dir, "stacks")
	dumps := func() (names []string) {
		all, _ := os.ReadDir(dir) // not there before the first
		for _, e := range all {
			if !strings.HasPrefix(e.Name(), ".") {
				names = append(names, e.Name())
			}
		}
		return names
	}
	for i, s := range []unix.Signal{unix.SIGUSR1, unix.SIGQUIT} {
		r.signal(s)
		await(t, "dump", func() error {
			if n := len(dumps()); n != i+1 {
				return fmt.Errorf("%d dumps, want %d", n, i+1)
			}
			return nil
		})
	}
	for range 100 {
		r.signal(unix.SIGUSR1)
	}
	await(t, "end of the burst", func() error { return r.info() })
	if n := len(dumps()); n > 11 { // ten, and one that is about to be removed
		t.Errorf("%d dumps, want 11 at most", n)
	}
	r.end(unix.SIGTERM)
	if names := dumps(); slices.Contains(names, "") || len(names) == 0 {
		t.Errorf("dumps %q", names)
	}
}

// readOnly returns a directory in which nothing can be created.
func readOnly(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestStackDumpInTheLog (F11): if no directory takes a dump, it is written to the
// log, which nobody has read so far, with the reason; the shim goes on.
func TestStackDumpInTheLog(t *testing.T) {
	dir := readOnly(t)
	r := startShim(t, "unix://"+filepath.Join(t.TempDir(), "s"), "-stack-dir", filepath.Join(dir, "stacks"))
	if err := r.info(); err != nil { // it is up, and the log is open
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(r.cmd.Dir, "shim.stdout.log"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// The second directory is the work directory.
	if err := unix.Mount(dir, r.cmd.Dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(r.cmd.Dir, 0); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		r.signal(unix.SIGUSR1)
		text := ""
		_ = log.SetReadDeadline(time.Now().Add(20 * time.Second)) // fails only if closed
		for buf := make([]byte, 64<<10); !strings.Contains(text, "read-only file system"); {
			n, err := log.Read(buf)
			if err != nil {
				t.Fatalf("log %q, %v", text, err)
			}
			text += string(buf[:n])
		}
		d, err := stackdump.Parse([]byte(text))
		if err != nil || !d.Complete || d.Header["pid"] != strconv.Itoa(r.cmd.Process.Pid) {
			t.Errorf("log %.500q: %+v, %v", text, d, err)
		}
		if err := r.info(); err != nil {
			t.Error(err)
		}
	}
	r.end(unix.SIGTERM)
}

// TestStackDumpInTheWorkDirectory (F11): a dump is written to the work directory if
// its own directory is read-only, even if the shim has no descriptor left.
func TestStackDumpInTheWorkDirectory(t *testing.T) {
	r := startShim(t, "unix://"+filepath.Join(t.TempDir(), "s"), "-stack-dir", filepath.Join(readOnly(t), "stacks"))
	if err := r.info(); err != nil {
		t.Fatal(err)
	}
	dumps := func() []string {
		names, _ := filepath.Glob(filepath.Join(r.cmd.Dir, "[^.]*.stacks")) // the pattern is right
		return names
	}
	r.signal(unix.SIGUSR1)
	await(t, "a dump", func() error {
		if n := len(dumps()); n != 1 {
			return fmt.Errorf("%d dumps", n)
		}
		return nil
	})
	free := 0 // the lowest descriptor that is not open in the shim
	for {
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", r.cmd.Process.Pid, free)); err != nil {
			break
		}
		free++
	}
	if err := unix.Prlimit(r.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: 1 << 10}, nil); err != nil {
		t.Fatal(err)
	}
	r.signal(unix.SIGUSR1)
	await(t, "a dump without a descriptor", func() error {
		if n := len(dumps()); n != 2 {
			return fmt.Errorf("%d dumps", n)
		}
		return nil
	})
	r.end(unix.SIGTERM)
}

// TestRuntimeEnvironment: the runtime gets neither the shim's GODEBUG, which Go
// programs would act on, nor NOTIFY_SOCKET (B58), nor a socket (B57).
func TestRuntimeEnvironment(t *testing.T) {
	t.Setenv("GODEBUG", "netdns=go")
	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	t.Setenv("PASSED_ON", "yes")
	dir := t.TempDir()
	fake := filepath.Join(dir, "runc")
	text := "#!/bin/sh\nenv >" + dir + "/env\nls -l /proc/self/fd >" + dir + "/fds\nexit 1\n"
	if err := os.WriteFile(fake, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	r := startShim(t, "unix://"+filepath.Join(dir, "s"), "-runtime-root", dir)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := r.client.Create(ctx, &api.CreateTaskRequest{ID: "c", Bundle: r.cmd.Dir, Runtime: fake}); err == nil {
		t.Error("Create with a runtime that fails: no error")
	}
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	for _, no := range []string{"GODEBUG=", "NOTIFY_SOCKET="} {
		if strings.Contains("\n"+string(env), "\n"+no) {
			t.Errorf("the runtime has %s", no)
		}
	}
	if !strings.Contains(string(env), "PASSED_ON=yes\n") {
		t.Error("the runtime does not have the rest of the environment")
	}
	fds, err := os.ReadFile(filepath.Join(dir, "fds"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(fds), "socket:") {
		t.Errorf("the runtime has a socket:\n%s", fds)
	}
	r.end(unix.SIGTERM)
}
