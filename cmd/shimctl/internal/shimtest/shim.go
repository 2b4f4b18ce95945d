// SPDX-License-Identifier: Apache-2.0

package shimtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/integration/harness/wait"
)

// Shim is a running shim with one container.
type Shim struct {
	PID       int
	Namespace string
	ID        string
	Bundle    string
	Work      string // -workdir
	InitPID   int
	Daemon    string // Underneath's containerd
	API       shimapi.ShimService

	group  int    // of the orphans
	beside string // the directory of fake runc
	exited chan struct{}
}

// Start runs the binary as containerd does (contract: a listening socket as
// descriptor 3, the bundle as working directory, standard streams on
// /dev/null), with arguments added to the usual ones, and creates a container.
// Everything is gone when the test is over.
func Start(t testing.TB, binary string, args ...string) *Shim {
	t.Helper()
	dir := t.TempDir()
	s := &Shim{Namespace: "shimtest", ID: fmt.Sprintf("c%d", os.Getpid()) + filepath.Base(dir), beside: dir, exited: make(chan struct{})}
	s.Work = filepath.Join(dir, "io.containerd.runtime.v1.linux", s.Namespace, s.ID)
	s.Bundle = filepath.Join(dir, "state", s.ID)
	for _, d := range []string{s.Work, filepath.Join(s.Bundle, "rootfs")} {
		must(t, os.MkdirAll(d, 0o700))
	}
	spec := `{"ociVersion":"1.0.0","process":{"args":["sleep"]},"linux":{}}`
	must(t, os.WriteFile(filepath.Join(s.Bundle, "config.json"), []byte(spec), 0o600))
	runc := tool(t, fakeRunc)
	for _, name := range []string{fakeRunc, fakePublisher} {
		must(t, os.Symlink(runc, filepath.Join(dir, name)))
	}

	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	must(t, err)
	defer l.Close()
	l.SetUnlinkOnClose(false)
	fd3, err := l.File()
	must(t, err)
	defer fd3.Close()
	must(t, os.WriteFile(filepath.Join(s.Bundle, "address"), []byte("unix://"+l.Addr().String()), 0o600))

	argv := append([]string{"-namespace", s.Namespace, "-workdir", s.Work, "-address", filepath.Join(dir, "daemon.sock"),
		"-containerd-binary", filepath.Join(dir, fakePublisher), "-runtime-root", filepath.Join(dir, "runc")}, args...)
	cmd := exec.Command(binary, argv...)
	cmd.Dir = s.Bundle
	cmd.ExtraFiles = []*os.File{fd3}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Killed shims leave temporary files.
	cmd.Env = append(os.Environ(), "CONTAINERD_SHIM_STACK_DIR="+filepath.Join(dir, "stacks"), "TMPDIR="+dir, "XDG_RUNTIME_DIR=")
	must(t, cmd.Start())
	s.PID = cmd.Process.Pid
	go func() { _ = cmd.Wait(); close(s.exited) }()
	t.Cleanup(s.stop)

	s.API = s.Dial(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	create := &shimapi.CreateTaskRequest{
		ID: s.ID, Bundle: s.Bundle, Runtime: filepath.Join(dir, fakeRunc),
		Stdout: filepath.Join(dir, "stdout"), Stderr: filepath.Join(dir, "stderr"),
	}
	for _, fifo := range []string{create.Stdout, create.Stderr} {
		must(t, syscall.Mkfifo(fifo, 0o600))
		client, err := os.OpenFile(fifo, os.O_RDWR, 0) // nothing is ever written to it
		must(t, err)
		t.Cleanup(func() { _ = client.Close() })
	}
	created, err := s.API.Create(ctx, create)
	must(t, err)
	s.InitPID = int(created.Pid)
	s.group = pidOf(filepath.Join(s.Bundle, "orphans.pgid"))
	_, err = s.API.Start(ctx, &shimapi.StartRequest{ID: s.ID})
	must(t, err)
	return s
}

// Dial makes one more connection to the shim.
func (s *Shim) Dial(t testing.TB) shimapi.ShimService {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Bundle, "address"))
	must(t, err)
	c, err := net.Dial("unix", strings.TrimPrefix(string(b), "unix://"))
	must(t, err)
	client := ttrpc.NewClient(c)
	t.Cleanup(func() { _ = client.Close() })
	return shimapi.NewShimClient(client)
}

// Exec adds and starts an exec. It returns when Start has.
func (s *Shim) Exec(ctx context.Context, id string) error {
	return s.ExecSpec(ctx, id, []byte(`{"args":["sleep"],"cwd":"/"}`))
}

// ExecSpec is Exec of a process by its OCI specification.
func (s *Shim) ExecSpec(ctx context.Context, id string, process []byte) error {
	spec, err := anypb.New(&emptypb.Empty{})
	if err != nil {
		return err
	}
	spec.TypeUrl, spec.Value = "types.containerd.io/opencontainers/runtime-spec/1/Process", process
	if _, err := s.API.Exec(ctx, &shimapi.ExecProcessRequest{ID: id, Spec: spec}); err != nil {
		return err
	}
	_, err = s.API.Start(ctx, &shimapi.StartRequest{ID: id})
	return err
}

// Pause pauses the container.
func (s *Shim) Pause(ctx context.Context) error {
	_, err := s.API.Pause(ctx, &emptypb.Empty{})
	return err
}

// ExecOnce runs an exec from its creation to its deletion.
func (s *Shim) ExecOnce(ctx context.Context, id string) error {
	if err := s.Exec(ctx, id); err != nil {
		return err
	}
	if _, err := s.API.Kill(ctx, &shimapi.KillRequest{ID: id, Signal: uint32(syscall.SIGKILL)}); err != nil {
		return err
	}
	if _, err := s.API.Wait(ctx, &shimapi.WaitRequest{ID: id}); err != nil {
		return err
	}
	_, err := s.API.DeleteProcess(ctx, &shimapi.DeleteProcessRequest{ID: id})
	return err
}

// Hold does a call whose runc verb (or publisher) stays at its gate, and
// returns when it is there. release lets it go on.
func (s *Shim) Hold(t testing.TB, verb string, call func(context.Context) error) (release func()) {
	t.Helper()
	gate := filepath.Join(s.Bundle, "gate-"+verb)
	must(t, syscall.Mkfifo(gate, 0o600))
	go func() { _ = call(context.Background()) }() // ends with the shim, which ends with the test
	var w *os.File
	Until(t, 10*time.Second, verb+" at its gate", func() bool {
		fd, err := unix.Open(gate, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) // ENXIO without a reader
		if err == nil {
			w = os.NewFile(uintptr(fd), gate)
		}
		return err == nil
	})
	must(t, os.Remove(gate)) // the next one goes through
	return func() { _ = w.Close() }
}

// HoldExec holds an exec's start.
func (s *Shim) HoldExec(t testing.TB) (release func()) {
	t.Helper()
	return s.Hold(t, "exec", func(ctx context.Context) error { return s.Exec(ctx, "held") })
}

// KillOrphans ends all orphans at one moment.
func (s *Shim) KillOrphans(t testing.TB) {
	t.Helper()
	must(t, syscall.Kill(-s.group, syscall.SIGKILL))
}

// Wedge makes the cycle of B01: the orphans' exits fill the channel while an
// exec's runc is at work, whose own exit then comes last.
func (s *Shim) Wedge(t testing.TB) {
	t.Helper()
	release := s.HoldExec(t)
	s.KillOrphans(t)
	Until(t, 20*time.Second, "State to hang", func() bool { return !s.Answers() })
	release()
	Until(t, 20*time.Second, "unreaped children", func() bool { return s.Zombies() > 0 })
}

// Answers reports whether State answers within three seconds: shims up to v1.2.11
// fork `runc state` for it.
func (s *Shim) Answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err := s.API.State(ctx, &shimapi.StateRequest{ID: s.ID})
	return err == nil
}

// Runs reports whether ShimInfo answers, for which no release forks or locks.
func (s *Shim) Runs() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err := s.API.ShimInfo(ctx, &emptypb.Empty{})
	return err == nil
}

// Zombies counts the shim's unreaped children: those without a living thread.
func (s *Shim) Zombies() (n int) {
	for _, pid := range s.children() {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, after, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(after); len(f) > 17 && f[0] == "Z" && f[17] == "1" {
			n++
		}
	}
	return n
}

// children are those of every thread: a child belongs to the thread that
// forked it, an adopted one to the first.
func (s *Shim) children() (pids []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.PID))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, field := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Exited is closed when the shim is gone.
func (s *Shim) Exited() <-chan struct{} { return s.exited }

// pidOf reads a pid file; 0 when there is none.
func pidOf(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

func (s *Shim) stop() {
	if s.group > 0 {
		_ = syscall.Kill(-s.group, syscall.SIGKILL)
	}
	// A killed shim leaves its execs to init, out of our sight but for this list.
	started, _ := os.ReadFile(filepath.Join(s.beside, startedFile))
	for _, field := range strings.Fields(string(started)) {
		pid, _ := strconv.Atoi(field)
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(comm) == "sleep\n" {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for _, pid := range append(s.children(), s.InitPID, s.PID) { // the shim last: it is their reaper
		if pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	<-s.exited
}

// Until waits for a condition, and fails the test when it does not come true in
// time.
func Until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	must(t, wait.For(limit, what, ok))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
