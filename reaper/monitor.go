// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

const (
	// outputGrace is how long the output of a command that has exited is
	// waited for. Its own bytes are in the pipe already; only a process that
	// inherited the pipe can keep it open, and that one must delay nobody.
	outputGrace = 100 * time.Millisecond
	// killGrace is how long a command may take to die of SIGKILL before it is
	// given up: one in uninterruptible sleep may never die.
	killGrace = 5 * time.Second
	// maxOutput bounds what is collected of a command's output; the rest is
	// read and dropped.
	maxOutput = 16 << 20
)

// ErrUnkillable is returned by Monitor.Wait for a command whose context ended
// and which did not die of SIGKILL in time.
var ErrUnkillable = errors.New("killed but still not dead")

// Monitor starts commands whose exits the Reaper delivers. It implements
// go-runc's ProcessMonitor. Unlike go-runc's own it locks no thread for the
// life of a command, and a process that a command leaves behind with its
// output open does not delay Wait.
type Monitor struct {
	r *Reaper
	// dropEnv names the environment variables that commands do not inherit.
	dropEnv []string
	// commands maps *exec.Cmd to *command, from Start to Wait.
	commands sync.Map
}

// command is what Monitor knows of one started command.
type command struct {
	child *Child
	// exits is sent to once, by await, and then closed; capacity 1.
	exits chan runc.Exit
	// started is closed when child is set, or when the start has failed.
	started chan struct{}
	// cancelled is closed, once, when the command's context ended before it.
	cancelled  chan struct{}
	cancelOnce sync.Once
}

// NewMonitor returns a Monitor on r. Variables named in dropEnv are removed
// from the environment of its commands.
func NewMonitor(r *Reaper, dropEnv ...string) *Monitor {
	return &Monitor{r: r, dropEnv: dropEnv}
}

// Start starts cmd. Its exit is sent on the channel, once.
func (m *Monitor) Start(cmd *exec.Cmd) (chan runc.Exit, error) {
	c, err := m.start(cmd)
	if err != nil {
		return nil, err
	}
	m.commands.Store(cmd, c)
	return c.exits, nil
}

// StartLocked is Start: the forking thread outlives every command, so a
// parent-death signal means the death of this process.
func (m *Monitor) StartLocked(cmd *exec.Cmd) (chan runc.Exit, error) {
	return m.Start(cmd)
}

// Wait returns the exit status of a command that Start returned exits for,
// after its output was read. When the command's context ends first, it is
// killed; the status is then that of a SIGKILL, or UnknownStatus with
// ErrUnkillable.
func (m *Monitor) Wait(cmd *exec.Cmd, exits chan runc.Exit) (int, error) {
	v, ok := m.commands.Load(cmd)
	if !ok {
		return UnknownStatus, errors.New("wait for a command that was not started here")
	}
	defer m.commands.Delete(cmd)
	c := v.(*command)
	e, err := c.wait(exits)
	// From here on the command is only a holder of pipes: release the process
	// so that os/exec does not wait for a pid that is not its own any more.
	_ = cmd.Process.Release() // fails only if released before
	if err == nil {
		_ = cmd.Wait() // reads the output to its end; there is no status left to get
	}
	return e.Status, err
}

func (c *command) wait(exits chan runc.Exit) (runc.Exit, error) {
	select {
	case e := <-exits:
		return e, nil
	case <-c.cancelled:
	}
	timer := time.NewTimer(killGrace)
	defer timer.Stop()
	select {
	case e := <-exits:
		return e, nil
	case <-timer.C:
		return runc.Exit{Pid: c.child.Pid(), Status: UnknownStatus, Timestamp: time.Now()}, ErrUnkillable
	}
}

func (m *Monitor) start(cmd *exec.Cmd) (*command, error) {
	c := &command{
		exits:     make(chan runc.Exit, 1),
		started:   make(chan struct{}),
		cancelled: make(chan struct{}),
	}
	m.prepare(cmd, c)
	t := m.r.Begin()
	defer t.Close()
	var err error
	m.r.forks.do(func() { err = cmd.Start() })
	if err != nil {
		close(c.started)
		return nil, err
	}
	c.child, err = t.Claim(cmd.Process.Pid, time.Time{})
	close(c.started)
	if err != nil { // cannot happen: a fork's pid is a child, and unclaimed
		return nil, err
	}
	go c.await()
	return c, nil
}

// await forwards the exit to whoever reads the channel.
func (c *command) await() {
	e := c.child.Exit()
	c.exits <- runc.Exit{Timestamp: e.At, Pid: e.Pid, Status: e.Status}
	close(c.exits)
}

// prepare makes cmd fit for a process in which only the Reaper waits.
func (m *Monitor) prepare(cmd *exec.Cmd, c *command) {
	if cmd.Cancel != nil { // set by exec.CommandContext to kill by pid
		cmd.Cancel = func() error {
			<-c.started
			if c.child == nil {
				return os.ErrProcessDone
			}
			c.cancelOnce.Do(func() { close(c.cancelled) })
			return c.child.Signal(unix.SIGKILL)
		}
	}
	cmd.WaitDelay = outputGrace
	if buf, ok := cmd.Stdout.(*bytes.Buffer); ok {
		limited := &limitedWriter{buf: buf, left: maxOutput}
		if cmd.Stderr == cmd.Stdout {
			cmd.Stderr = limited // the same writer, so one pipe for both
		}
		cmd.Stdout = limited
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = dropVars(cmd.Env, m.dropEnv)
}

// limitedWriter keeps the first left bytes and swallows the others.
type limitedWriter struct {
	buf  *bytes.Buffer
	left int64
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	n := min(int64(len(p)), l.left)
	l.left -= n
	l.buf.Write(p[:n])
	return len(p), nil
}

// ReadFrom spares io.Copy its buffer of 32 KiB per command.
func (l *limitedWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := l.buf.ReadFrom(io.LimitReader(r, l.left))
	l.left -= n
	if err != nil || l.left > 0 {
		return n, err
	}
	var sink [512]byte
	for {
		m, err := r.Read(sink[:])
		n += int64(m)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// dropVars returns env without the variables named.
func dropVars(env []string, names []string) []string {
	out := make([]string, 0, len(env))
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		drop := false
		for _, n := range names {
			drop = drop || n == name
		}
		if !drop {
			out = append(out, kv)
		}
	}
	return out
}

// Signal sends sig to a command between Start and the end of Wait. It returns
// os.ErrProcessDone if the command has exited or is not known.
func (m *Monitor) Signal(cmd *exec.Cmd, sig unix.Signal) error {
	v, ok := m.commands.Load(cmd)
	if !ok {
		return os.ErrProcessDone
	}
	return v.(*command).child.Signal(sig)
}

// Done returns a channel that is closed when a command that was started has
// exited; for one that Wait has returned, a closed one.
func (m *Monitor) Done(cmd *exec.Cmd) <-chan struct{} {
	v, ok := m.commands.Load(cmd)
	if !ok {
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	return v.(*command).child.Done()
}
