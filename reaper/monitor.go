// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"containerd-shim.v1/internal/errclass"

	"golang.org/x/sys/unix"
)

// Limits bound what commands are waited for and what is kept of them.
type Limits struct {
	// OutputGrace is how long to wait for the end of a command's output once
	// the command has exited. Its own bytes are in the pipe already; only a
	// process that inherited the pipe can keep it open, and must delay nobody.
	OutputGrace time.Duration
	// KillGrace is how long a command may take to die of SIGKILL before it is
	// given up: one in uninterruptible sleep may never die.
	KillGrace time.Duration
	// MaxOutput bounds, in bytes, what is kept of a command's output; the rest
	// is read and dropped.
	MaxOutput int
}

// DefaultLimits are those of a shim.
func DefaultLimits() Limits {
	return Limits{OutputGrace: 100 * time.Millisecond, KillGrace: 5 * time.Second, MaxOutput: 16 << 20}
}

// ErrUnkillable is returned for a command whose context ended and that did not
// die of SIGKILL in time. The Reaper reaps it when it dies.
var ErrUnkillable = errors.New("killed but still not dead")

// StartError is the error of a command that was never started.
type StartError struct{ Err error }

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Command says what to start.
type Command struct {
	// Args are the program, a path or a name to be looked up in PATH, and its
	// arguments.
	Args []string
	// Env is the environment; nil is this process's, without what the Monitor
	// drops.
	Env []string
	// Files are the command's descriptors from 0 on. They still belong to the
	// caller, who closes them. A nil file, and a missing one among the first
	// three, is /dev/null; but Run collects what is written to 1 and 2 where
	// Files does not name them.
	Files []*os.File
	// Input is what Run gives the command as descriptor 0, if it is not nil.
	// It must fit into a pipe (64 KiB by default, pipe(7)).
	Input []byte
	// Pdeathsig is sent to the command when this process dies (prctl(2),
	// PR_SET_PDEATHSIG); 0 for none.
	Pdeathsig unix.Signal
	// Started, if it is not nil, is called by Run once the command was started:
	// the caller's copies of the command's files may be closed then.
	Started func()
}

// Monitor starts commands whose exits the Reaper delivers.
//
// It does not use os/exec's Cmd, which waits by itself, starts a goroutine for
// each context and each stream, and kills by pid, which is unsafe where somebody
// else reaps.
type Monitor struct {
	r      *Reaper
	limits Limits
	// dropEnv names the environment variables that commands do not inherit.
	dropEnv []string

	mu sync.Mutex
	// +checklocks:mu
	looks map[string]*look // those under way, by program
}

// NewMonitor returns a Monitor on r. Variables named in dropEnv are removed
// from the environment of its commands.
func NewMonitor(r *Reaper, l Limits, dropEnv ...string) *Monitor {
	return &Monitor{r: r, limits: l, dropEnv: dropEnv, looks: make(map[string]*look)}
}

// Start starts c, whose Input must be nil. ctx bounds the start, not the
// command's life. Every error is a *StartError.
func (m *Monitor) Start(ctx context.Context, c Command) (*Child, error) {
	child, err := m.start(ctx, c)
	if err != nil {
		return nil, &StartError{err}
	}
	return child, nil
}

// Run runs c and returns what it wrote to those of descriptors 1 and 2 that
// Files does not name, and its exit status. When ctx ends first, the command is
// killed; the status is then 137, or UnknownStatus together with ErrUnkillable.
// Any other error is a *StartError.
func (m *Monitor) Run(ctx context.Context, c Command) (output []byte, status int, err error) {
	p, err := m.openPipes(&c)
	defer p.close()
	if err != nil {
		return nil, UnknownStatus, &StartError{err}
	}
	child, err := m.Start(ctx, c)
	if err != nil {
		return nil, UnknownStatus, err
	}
	if c.Started != nil {
		c.Started()
	}
	if p.out != nil {
		_ = p.child[1].Close() // the command now has the only write end
		output = m.collect(ctx, p.out, child)
	}
	select {
	case <-child.Done():
		return output, child.Wait().Status, nil
	case <-ctx.Done():
	}
	_ = child.Signal(unix.SIGKILL) // fails only if it is dead
	timer := time.NewTimer(m.limits.KillGrace)
	defer timer.Stop()
	select {
	case <-child.Done():
		return output, child.Wait().Status, nil
	case <-timer.C:
		return output, UnknownStatus, ErrUnkillable
	}
}

// pipes are what Run lends a command.
type pipes struct {
	out   *os.File    // nil if there is nothing to collect
	child [2]*os.File // the command's ends, of its input and its output
}

func (p pipes) close() {
	for _, f := range []*os.File{p.out, p.child[0], p.child[1]} {
		if f != nil {
			_ = f.Close() // nothing is buffered, and closed twice is harmless
		}
	}
}

// openPipes adds the pipes that c needs to its files. The caller closes what it
// returns, also after an error.
func (m *Monitor) openPipes(c *Command) (p pipes, err error) {
	files := make([]*os.File, max(3, len(c.Files)))
	copy(files, c.Files)
	c.Files = files
	if c.Input != nil {
		if p.child[0], err = filledPipe(c.Input); err != nil {
			return p, err
		}
		files[0] = p.child[0]
	}
	if files[1] != nil && files[2] != nil {
		return p, nil
	}
	if p.out, p.child[1], err = os.Pipe(); err != nil {
		return p, err
	}
	for i := 1; i < 3; i++ {
		if files[i] == nil {
			files[i] = p.child[1]
		}
	}
	return p, nil
}

// filledPipe returns the read end of a pipe that holds data and then ends.
func filledPipe(data []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	room, err := unix.FcntlInt(r.Fd(), unix.F_GETPIPE_SZ, 0)
	if err == nil && room < len(data) { // nobody reads it yet: it has to fit
		_, err = unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, len(data)) // 1 MiB (pipe(7), pipe-max-size); EPERM beyond
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		_ = r.Close() // nobody reads it
		return nil, err
	}
	return r, nil
}

// collect reads the command's output until end of file, or until OutputGrace
// after the command's exit if another process keeps the pipe open.
func (m *Monitor) collect(ctx context.Context, r *os.File, child *Child) []byte {
	defer context.AfterFunc(ctx, func() { giveUp(r) })()
	var all []byte
	var last time.Time // when to give up; zero while the command lives
	buf := make([]byte, 512)
	for {
		deadline := last
		if deadline.IsZero() {
			deadline = time.Now().Add(m.limits.OutputGrace)
		}
		n, err := readBefore(ctx, r, buf, deadline)
		if errclass.Starved(err) { // it has not ended
			time.Sleep(errclass.Pause)
			err = nil
		}
		all = append(all, buf[:min(n, m.limits.MaxOutput-len(all))]...)
		timedOut := errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !timedOut || timedOut && !last.IsZero() {
			return all
		}
		if n == len(buf) && n < 32<<10 {
			buf = make([]byte, 2*n)
		}
		if last.IsZero() {
			select {
			case <-child.Done():
				last = time.Now().Add(m.limits.OutputGrace)
			case <-ctx.Done():
				last = time.Now()
			default:
			}
		}
	}
}

// giveUp ends a read of r, and those to come.
func giveUp(r *os.File) { _ = r.SetReadDeadline(time.Unix(1, 0)) } // without one readBefore does not wait for long

// readBefore reads from a pipe, or fails with os.ErrDeadlineExceeded at the deadline, or
// earlier if ctx ends.
func readBefore(ctx context.Context, r *os.File, buf []byte, deadline time.Time) (int, error) {
	if r.SetReadDeadline(deadline) == nil {
		if ctx.Err() != nil {
			giveUp(r)
		}
		return r.Read(buf)
	}
	// Package os does not say that the poller could not take it (epoll_ctl(2): ENOMEM, ENOSPC):
	// a read would wait for as long as anybody has the pipe open.
	if ctx.Err() != nil || !time.Now().Before(deadline) { // though there may be bytes that no page can be had for
		return 0, os.ErrDeadlineExceeded
	}
	fds := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
	switch {
	case err == unix.EINTR:
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("poll", err)
	case n == 0:
		return 0, os.ErrDeadlineExceeded
	}
	return r.Read(buf)
}

func (m *Monitor) start(ctx context.Context, c Command) (*Child, error) {
	path, err := m.find(ctx, c.Args[0])
	if err != nil {
		return nil, err
	}
	env := c.Env
	if env == nil {
		env = dropVars(os.Environ(), m.dropEnv)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{Env: env, Sys: &syscall.SysProcAttr{Pdeathsig: c.Pdeathsig}}
	t := m.r.Begin()
	defer t.Close()
	var pid int
	if e := m.r.forks.do(ctx, func() {
		// Only now: a file that was closed meanwhile has no descriptor any more.
		attr.Files = make([]uintptr, max(3, len(c.Files)))
		for i := range attr.Files {
			f := null
			if i < len(c.Files) && c.Files[i] != nil {
				f = c.Files[i]
			}
			attr.Files[i] = f.Fd() // also makes it blocking, as a command expects
		}
		defer m.r.forks.limitFiles()()
		pid, err = syscall.ForkExec(path, c.Args, attr)
	}); e != nil {
		return nil, e
	}
	runtime.KeepAlive(c.Files)
	if err != nil {
		return nil, &os.PathError{Op: "fork/exec", Path: path, Err: err}
	}
	return t.Claim(pid, time.Time{}, nil) // cannot fail: a fork's pid is a child, and unclaimed
}

// look is one attempt to find and read a program.
type look struct {
	done chan struct{} // closed when path and err are set
	path string
	err  error
}

// find returns the path of a program once the first page of it could be read.
// Between fork and exec the forking thread waits in the kernel (CLONE_VFORK) in a
// state in which the Go runtime cannot preempt it: an execve(2) that stalls, on a
// file system whose server is gone, would stop this whole process at its next
// garbage collection. So the file is read first: that may stall one thread for
// each program, however many calls wait for it.
func (m *Monitor) find(ctx context.Context, name string) (string, error) {
	m.mu.Lock()
	l := m.looks[name]
	if l == nil {
		l = &look{done: make(chan struct{})}
		m.looks[name] = l
		go m.look(name, l)
	}
	m.mu.Unlock()
	select {
	case <-l.done:
		return l.path, l.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (m *Monitor) look(name string, l *look) {
	if l.path, l.err = exec.LookPath(name); l.err == nil {
		if f, err := os.Open(l.path); err == nil { // it may be executable and not readable
			_, _ = io.ReadFull(f, make([]byte, os.Getpagesize())) // all that matters is that it returns
			_ = f.Close()                                         // it was only read
		}
	}
	m.mu.Lock()
	delete(m.looks, name)
	m.mu.Unlock()
	close(l.done)
}

// dropVars returns env without the variables named.
func dropVars(env []string, names []string) []string {
	return slices.DeleteFunc(env, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(names, name)
	})
}
