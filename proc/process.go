// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"

	"github.com/containerd/errdefs"
)

// Stdio names a process's streams.
type Stdio = stdio.Names

// Exit is the end of a process as clients see it; the zero Exit is that of a
// living one.
type Exit struct {
	Status int       // 0-255; reaper.UnknownStatus if it is not known
	At     time.Time // zero for a process that never ran
}

// Snapshot is what State answers.
type Snapshot struct {
	ID    string
	Pid   int // kept after the exit: dockerd tells init from exec by it
	Phase Phase
	Stdio Stdio
	Exit  Exit
}

// attempt is one try to start a process, and its exit. An exec whose start has
// failed may be started again, which is its next attempt.
type attempt struct {
	// done is closed once, after exit was written; under process.mu.
	done chan struct{}
	exit Exit
}

func newAttempt() *attempt { return &attempt{done: make(chan struct{})} }

// process is what init and exec have in common. Fields above mu do not change
// after construction.
type process struct {
	env   *Env
	id    string
	names Stdio
	verbs verbLock

	mu sync.Mutex
	// +checklocks:mu
	phase Phase
	// +checklocks:mu
	child *reaper.Child // nil before the first successful start
	// +checklocks:mu
	pid int
	// +checklocks:mu
	attempt *attempt
	// +checklocks:mu
	io *stdio.Streams // nil before the streams are open
	// +checklocks:mu
	size *stdio.Size // the last one of ResizePty
	// +checklocks:mu
	stdinEOF bool // CloseIO was called
}

func newProcess(env *Env, id string, names Stdio) process {
	return process{env: env, id: id, names: names, verbs: newVerbLock(), attempt: newAttempt()}
}

// ID returns the container id for init, the exec id for an exec.
func (p *process) ID() string { return p.id }

// Snapshot returns the facts as they are now. It never waits for a verb.
func (p *process) Snapshot() Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Snapshot{ID: p.id, Pid: p.pid, Phase: p.phase, Stdio: p.names, Exit: p.attempt.exit}
}

// Wait returns the exit, waiting for it until ctx ends.
func (p *process) Wait(ctx context.Context) (Exit, error) {
	p.mu.Lock()
	a := p.attempt
	p.mu.Unlock()
	select { // an exit that is known is told, though ctx may have ended
	case <-a.done:
		return a.exit, nil
	default:
	}
	select {
	case <-a.done:
		return a.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Child returns the running or exited process, nil before the start.
func (p *process) Child() *reaper.Child {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.child
}

// ask returns nil if the table allows ev now. It changes nothing.
func (p *process) ask(ev Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := next(p.phase, ev)
	return err
}

// apply makes ev happen.
func (p *process) apply(ev Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applyLocked(ev)
}

// applyLocked is apply for a caller that holds p.mu.
// +checklocks:p.mu
func (p *process) applyLocked(ev Event) error {
	to, err := next(p.phase, ev)
	if err != nil {
		return err
	}
	p.phase = to
	return nil
}

// adopt records the started process. Its exit may be known already.
func (p *process) adopt(c *reaper.Child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.child = c
	p.pid = c.Pid()
}

// AdmitStart waits until the process may be started, at most until ctx ends. The
// caller calls started when the start has ended.
func (p *process) AdmitStart(context.Context) (started func(), err error) { return func() {}, nil }

// CheckStart returns nil if the process may be started now.
func (p *process) CheckStart() error { return p.ask(WantStart) }

// RecordExit makes the exit visible to Snapshot and Wait, and stops the input.
// Whoever receives exits from the Reaper calls it once, on their owner; the first
// exit of an attempt counts. It returns the phase before the exit, and waits for
// nothing.
func (p *process) RecordExit(e reaper.Exit) Phase {
	was, io := p.recordExit(e)
	if io != nil {
		guard.Do("end the input", io.ProcessExited)
	}
	return was
}

func (p *process) recordExit(e reaper.Exit) (was Phase, io *stdio.Streams) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was = p.phase
	_ = p.applyLocked(DidExit) // a fact is legal in every phase
	p.pid = e.Pid
	p.endAttemptLocked(Exit{Status: e.Status, At: e.At})
	return was, p.io
}

// endAttemptLocked writes the exit, once; the caller holds p.mu.
// +checklocks:p.mu
func (p *process) endAttemptLocked(e Exit) {
	select {
	case <-p.attempt.done:
	default:
		p.attempt.exit = e
		close(p.attempt.done)
	}
}

// endAttempt ends an attempt that had no process, with an unknown status.
func (p *process) endAttempt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endAttemptLocked(Exit{Status: reaper.UnknownStatus})
}

// newAttempt begins the next attempt if the last one has ended.
func (p *process) newAttempt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.attempt.done:
		p.attempt = newAttempt()
	default:
	}
}

// setIO gives the process its opened streams, and applies what was asked for before.
func (p *process) setIO(io *stdio.Streams) {
	p.mu.Lock()
	p.io = io
	eof, size := p.stdinEOF, p.size
	p.mu.Unlock()
	if eof {
		io.CloseInput()
	}
	if size != nil {
		_ = io.Resize(*size) // the console may not be there yet; receive repeats it
	}
}

// dropIO forgets the streams of a failed start: the next one opens new ones.
func (p *process) dropIO() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.io = nil
}

// CloseStdin gives up the shim's hold on the input FIFO: the process sees the
// end of its input once every client has closed it too. It may be called any
// number of times and before the process is started.
func (p *process) CloseStdin() {
	p.mu.Lock()
	p.stdinEOF = true
	io := p.io
	p.mu.Unlock()
	if io != nil {
		io.CloseInput()
	}
}

// Resize sets the terminal's size, or remembers it for a terminal that is yet
// to come. Without a terminal it does nothing.
func (p *process) Resize(width, height uint32) error {
	size, err := stdio.NewSize(width, height)
	if err != nil {
		return err
	}
	p.mu.Lock()
	_, err = next(p.phase, WantResize)
	if err == nil {
		p.size = &size
	}
	io := p.io
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if io == nil {
		return nil
	}
	return io.Resize(size)
}

// Lock waits until no verb of the process is at work, at most until ctx ends.
// Start, Delete, Pause, Resume, Update and Checkpoint are called with the
// process locked; all other methods need no lock. Unlock must follow a nil
// error.
func (p *process) Lock(ctx context.Context) error {
	if err := p.verbs.lock(ctx); err != nil {
		return fmt.Errorf("wait for another operation on process %s: %w", p.id, err)
	}
	return nil
}

// Unlock lets the next verb through.
func (p *process) Unlock() { p.verbs.unlock() }

// target returns the signal of a Kill and the process that it is for, or why there is
// none.
func (p *process) target(sig uint32) (unix.Signal, *reaper.Child, error) {
	if err := p.ask(WantKill); err != nil {
		return 0, nil, err
	}
	if sig > 64 {
		return 0, nil, invalidf("signal %d: no such signal", sig)
	}
	child := p.Child()
	if child == nil {
		return 0, nil, errNotStarted()
	}
	return unix.Signal(sig), child, nil
}

// errNotStarted is the answer to a Kill of an exec that has no process.
func errNotStarted() error {
	return fmt.Errorf("process not created: %w", errdefs.ErrFailedPrecondition)
}

// errFinished is the answer to a Kill of what is dead; dockerd reads it as
// "gone already".
func errFinished() error {
	return fmt.Errorf("process already finished: %w", errdefs.ErrNotFound)
}
