// SPDX-License-Identifier: Apache-2.0

// Package launch starts a v1 shim as the containerd of a chosen Generation does: the
// socket, the working directory, the environment, the log FIFOs; and a v2 shim as every
// containerd since 1.3 does.
package launch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/faults"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/sweep"
)

// Options describe one start of a shim.
type Options struct {
	Generation
	Namespace   string
	ID          string
	Bundle      string // the shim's working directory
	Workdir     string
	RuntimeRoot string
	GRPC        string // the daemon's address
	Publisher   string // the daemon's binary
	Debug       bool
	OwnSocket   bool             // -socket instead of descriptor 3, as an operator may do
	Undrained   bool             // nobody reads the log FIFOs
	Flags       []string         // further flags
	Env         []string         // further environment
	Umask       *int             // of the shim; nil: that of the harness
	StackDir    string           // where a shim that can writes its stacks to a file
	Dir         string           // the case
	Faults      *faults.Injector // not nil: the shim's system calls pass through it
	Helper      string           // the helper's file, for Faults and StartV2
	Bootstrap   bool             // of a v2 shim: see Bootstraps
}

// Shim is a running shim.
type Shim struct {
	Pid     int
	Address string          // for package net
	Version int             // of a v2 shim's task service
	Done    <-chan struct{} // closed once it has ended and is reaped

	cmd     *exec.Cmd // the shim, or the starter of a v2 shim
	process *os.Process
	logs    []*os.File // the daemon's ends of the log FIFOs

	stackDir string
	workDir  string
	mu       sync.Mutex // guards the following
	out      bytes.Buffer
	foreign  []string // the dumps in PatchedStacks that Stacks has read
}

// outputLimit bounds what is kept of a shim's output.
const outputLimit = 32 << 20

// Start starts the shim at path. Kill ends it and releases everything; if both shim
// and error are returned, the shim runs.
func Start(path string, s Options) (*Shim, error) {
	address, listen := s.address(s.Dir, s.Namespace, s.ID)
	if len(address) > maxAddress {
		return nil, fmt.Errorf("address %q is longer than %d bytes", address, maxAddress)
	}
	shim := &Shim{Address: listen, stackDir: s.StackDir, workDir: s.Workdir}
	args := []string{"-namespace", s.Namespace, "-workdir", s.Workdir, "-address", s.GRPC, "-containerd-binary", s.Publisher, "-runtime-root", s.RuntimeRoot}
	if s.Debug {
		args = append(args, "-debug")
	}
	if s.OwnSocket {
		args = append(args, "-socket", address)
	}
	cmd := exec.Command(path, append(args, s.Flags...)...)
	cmd.Dir = s.Bundle
	// What a killed shim leaves of its temporary files goes with the case. runc's
	// console sockets are in the runtime directory where there is one.
	cmd.Env = append(os.Environ(), sweep.Mark+"="+s.Dir, "TMPDIR="+s.Dir, "XDG_RUNTIME_DIR=")
	if s.MaxProcs {
		cmd.Env = append(cmd.Env, "GOMAXPROCS=2")
	}
	cmd.Env = append(cmd.Env, "CONTAINERD_SHIM_STACK_DIR="+s.StackDir)
	cmd.Env = append(cmd.Env, s.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !s.OwnSocket {
		f, err := listener(listen)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		cmd.ExtraFiles = []*os.File{f}
	}
	if s.LogFIFOs {
		logs := []string{filepath.Join(s.Workdir, "shim.stdout.log"), filepath.Join(s.Workdir, "shim.stderr.log")}
		if err := shim.openLogs(logs, s.Undrained); err != nil {
			shim.LeaveLogs()
			return nil, err
		}
	}
	if s.Pipes || s.Debug {
		cmd.Stdout, cmd.Stderr = shim, shim
	}
	if err := startWithUmask(cmd, s); err != nil {
		shim.LeaveLogs()
		return nil, fmt.Errorf("start shim: %w", err)
	}
	shim.process, shim.Pid = cmd.Process, cmd.Process.Pid
	shim.supervise(cmd)
	if s.Address {
		err := errors.Join(
			os.WriteFile(filepath.Join(s.Bundle, "address"), []byte(address), 0o600),
			os.WriteFile(filepath.Join(s.Bundle, "shim.pid"), fmt.Appendf(nil, "%d", shim.Pid), 0o600))
		if err != nil {
			return shim, err
		}
	}
	return shim, nil
}

// listener binds the address as a daemon does before it forks. The path of a
// socket stays when the listener is closed: removing it is not the shim's job.
func listener(address string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// supervise waits for the end of the command that ends with the shim.
func (s *Shim) supervise(cmd *exec.Cmd) {
	done := make(chan struct{})
	s.cmd, s.Done = cmd, done
	go func() {
		_ = cmd.Wait() // its status is in cmd.ProcessState
		close(done)
	}()
}

// openLogs makes the log FIFOs and opens them read-write, as the daemon does, and drains
// them.
func (s *Shim) openLogs(paths []string, undrained bool) error {
	for _, path := range paths {
		if err := syscall.Mkfifo(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		s.logs = append(s.logs, f)
		if !undrained {
			go func() { _, _ = io.Copy(s, f) }() // ends when close closes f
		}
	}
	return nil
}

// Write keeps the shim's output.
func (s *Shim) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if room := outputLimit - s.out.Len(); room > 0 {
		s.out.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// Output is what the shim has written to its stdout, stderr and log FIFOs.
func (s *Shim) Output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// Exited reports whether the shim has ended, and how.
func (s *Shim) Exited() (string, bool) {
	if procfs.Alive(s.Pid) {
		return "", false
	}
	select {
	case <-s.Done:
		return s.cmd.ProcessState.String(), true
	case <-time.After(time.Second):
		// The process is gone; a child of it still holds its stdout.
		return "ended, but a child keeps its stdout open", true
	}
}

// ExitCode waits for the shim's end.
func (s *Shim) ExitCode(d time.Duration) (int, error) {
	select {
	case <-s.Done:
		return s.cmd.ProcessState.ExitCode(), nil
	case <-time.After(d):
		return 0, fmt.Errorf("the shim has not ended within %v", d)
	}
}

// startWithUmask forks under another umask, which is the whole process's: a file
// that another goroutine makes meanwhile would get it, too. The harness makes none
// at that moment, and sets the modes that matter.
func startWithUmask(cmd *exec.Cmd, s Options) error {
	if s.Umask != nil {
		defer syscall.Umask(syscall.Umask(*s.Umask))
	}
	if s.Faults != nil {
		return s.Faults.Start(cmd, s.Helper)
	}
	return cmd.Start()
}

// LeaveLogs closes the daemon's ends of the log FIFOs, as the daemon's death would.
func (s *Shim) LeaveLogs() {
	for _, f := range s.logs {
		_ = f.Close()
	}
}

// Kill ends the shim and releases what its start has taken.
func (s *Shim) Kill() {
	if s.process != nil {
		_ = s.process.Kill() // it may have ended
	}
	s.LeaveLogs()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, dump := range s.foreign {
		_ = os.Remove(dump) // or other shims of the host have, for which there were too many
	}
}

// FillLogs writes into the log FIFOs until they are full, as they are some hours
// after nobody reads them any more.
func (s *Shim) FillLogs() error {
	junk := make([]byte, 4096)
	for _, f := range s.logs {
		fd, err := unix.Open(f.Name(), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open log FIFO: %w", err)
		}
		for n := len(junk); n > 0; { // whole pages first, then what is left of the last
			if _, err = unix.Write(fd, junk[:n]); errors.Is(err, unix.EAGAIN) {
				n, err = n/2, nil
			} else if err != nil {
				break
			}
		}
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return fmt.Errorf("fill log FIFO: %w", err)
		}
	}
	return nil
}
