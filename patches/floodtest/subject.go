// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

const (
	namespace = "floodtest"
	// createTimeout bounds Create and Start of the container.
	createTimeout = 30 * time.Second
	// reapTimeout bounds the wait for what was killed to die: a host that is as busy as a flood makes it needs long for thousands.
	reapTimeout = time.Minute
)

// subject is one shim under test, with the container it runs.
type subject struct {
	options
	dir, id string
	cmd     *exec.Cmd
	exited  chan error
	client  *ttrpc.Client
	api     shimapi.ShimService
	logs    []*os.File
	// lastAnswer is when the shim last answered a call, in Unix nanoseconds.
	lastAnswer atomic.Int64
}

// start launches the shim as containerd does and creates the container.
func start(o options) (_ *subject, err error) {
	dir, err := os.MkdirTemp("", "floodtest-")
	if err != nil {
		return nil, err
	}
	s := &subject{options: o, dir: dir, id: fmt.Sprintf("flood-%d", os.Getpid()), exited: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	// What the shim leaves behind comes to this process, to be reaped in stop.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	guest, err := filepath.Abs(o.guest)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"bundle", "work", "events"} {
		if err := os.Mkdir(s.path(d), 0o711); err != nil {
			return nil, err
		}
	}
	if err := writeBundle(s.path("bundle"), guest, "/"+s.id, o.storm > 0); err != nil {
		return nil, err
	}
	if o.storm > 0 {
		if s.runc, err = exec.LookPath(o.runc); err != nil {
			return nil, err
		}
		if err := copyFile(s.path("gated-runc"), guest); err != nil {
			return nil, err
		}
	}
	if err := s.launch(guest); err != nil {
		return nil, err
	}
	return s, s.create()
}

func (s *subject) path(name string) string { return filepath.Join(s.dir, name) }

// launch starts the shim: descriptor 3 is the listening socket, the working
// directory is the bundle, standard streams are /dev/null.
func (s *subject) launch(guest string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path("sock"), Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	socket, err := l.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	binary, err := filepath.Abs(s.shim)
	if err != nil {
		return err
	}
	s.cmd = exec.Command(binary, "-namespace", namespace, "-workdir", s.path("work"), "-address", s.path("no-daemon"),
		"-containerd-binary", guest, "-runtime-root", s.path("runc"))
	s.cmd.Dir = s.path("bundle")
	s.cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "FLOOD_EVENTS="+s.path("events"),
		"FLOOD_RUNC="+s.runc, "FLOOD_GATE="+s.path("gate"),
		"TMPDIR="+s.path("work"), "XDG_RUNTIME_DIR=") // a killed shim leaves temporary files
	s.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	s.cmd.ExtraFiles = []*os.File{socket}
	if s.stderr != "" {
		log, err := os.OpenFile(s.stderr, os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		s.logs = append(s.logs, log)
		s.cmd.Stderr = log
	}
	if err := s.drainLogs(); err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start shim: %w", err)
	}
	go func() { s.exited <- s.cmd.Wait() }()
	conn, err := net.Dial("unix", s.path("sock"))
	if err != nil {
		return err
	}
	s.client = ttrpc.NewClient(conn)
	s.api = shimapi.NewShimClient(s.client)
	return nil
}

// drainLogs reads the log FIFOs of shims since 1.2.7, which block when full.
// containerd throws away what comes out; with -stderr it is kept.
func (s *subject) drainLogs() error {
	for _, name := range []string{"shim.stdout.log", "shim.stderr.log"} {
		path := filepath.Join(s.path("work"), name)
		if err := unix.Mkfifo(path, 0o700); err != nil {
			return fmt.Errorf("mkfifo %s: %w", path, err)
		}
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		to := io.Discard
		if s.cmd.Stderr != nil {
			to = s.cmd.Stderr
		}
		s.logs = append(s.logs, f)
		go func() { _, _ = io.Copy(to, f) }() // ends when stop closes the FIFO
	}
	return nil
}

func (s *subject) create() error {
	ctx, cancel := context.WithTimeout(context.Background(), createTimeout)
	defer cancel()
	runtime := s.runc
	if s.storm > 0 {
		runtime = s.path("gated-runc")
	}
	if _, err := s.api.Create(ctx, &shimapi.CreateTaskRequest{ID: s.id, Bundle: s.path("bundle"), Runtime: runtime}); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if _, err := s.api.Start(ctx, &shimapi.StartRequest{ID: s.id}); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// stop kills the shim and the container and removes all that start made.
func (s *subject) stop() error {
	var errs []error
	if s.client != nil {
		s.client.Close()
	}
	if s.cmd != nil && s.cmd.Process != nil {
		if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
		<-s.exited // killed: its status does not matter
		// The container's processes are children of this one now, and init
		// ends only when all of them have been reaped.
		errs = append(errs, s.killInit(), s.killOrphans(), reapAll())
		root := filepath.Join(s.path("runc"), namespace)
		if out, err := exec.Command(s.runc, "--root", root, "delete", "--force", s.id).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("runc delete: %w: %s", err, out))
		}
	}
	for _, f := range s.logs {
		f.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// killInit kills the container's init, a child of the dead shim.
func (s *subject) killInit() error {
	text, err := os.ReadFile(filepath.Join(s.path("bundle"), "init.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // the container was never created
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return fmt.Errorf("init.pid: %w", err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill init: %w", err)
	}
	return nil
}

// reapAll waits until no child is left. Nothing else waits in this process
// meanwhile.
func reapAll() error {
	for deadline := time.Now().Add(reapTimeout); time.Now().Before(deadline); {
		switch pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); {
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait4: %w", err)
		case pid == 0:
			time.Sleep(5 * time.Millisecond) // poll: no blocking wait4 has a deadline
		}
	}
	return errors.New("children still alive")
}
