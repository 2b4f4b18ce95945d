// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"containerd-shim/guard"
	"containerd-shim/proc/stdio"
	"containerd-shim/reaper"

	"github.com/containerd/errdefs"
)

// Stdio names a process's streams.
type Stdio = stdio.Names

// Exit is the end of a process as clients see it.
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

// promise is the exit of one life of a process. An exec whose start failed may
// be started again and then has a second life.
type promise struct {
	// done is closed once, after exit was written; under process.mu.
	done chan struct{}
	exit Exit
}

func newPromise() *promise { return &promise{done: make(chan struct{})} }

// process is what init and exec have in common. Fields above mu do not change
// after construction.
type process struct {
	env   *Env
	id    string
	names Stdio
	gate  gate

	mu sync.Mutex
	// +checklocks:mu
	phase Phase
	// +checklocks:mu
	child *reaper.Child // nil before the first successful start
	// +checklocks:mu
	pid int
	// +checklocks:mu
	life *promise
	// +checklocks:mu
	io *stdio.Streams // nil before the streams are open
	// +checklocks:mu
	size *stdio.Size // what ResizePty asked for last
	// +checklocks:mu
	stdinEOF bool // CloseIO was called
}

func newProcess(env *Env, id string, names Stdio) process {
	return process{env: env, id: id, names: names, gate: newGate(), life: newPromise()}
}

// ID returns the container id for init, the exec id for an exec.
func (p *process) ID() string { return p.id }

// Snapshot returns the facts as they are now. It never waits for a verb.
func (p *process) Snapshot() Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Snapshot{ID: p.id, Pid: p.pid, Phase: p.phase, Stdio: p.names, Exit: p.life.exit}
}

// Wait returns the exit, waiting for it until ctx ends.
func (p *process) Wait(ctx context.Context) (Exit, error) {
	p.mu.Lock()
	life := p.life
	p.mu.Unlock()
	select {
	case <-life.done:
		return life.exit, nil
	default:
	}
	select {
	case <-life.done:
		return life.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Child returns the promise of the running or exited process, nil before start.
func (p *process) Child() *reaper.Child {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.child
}

// ask says whether the table allows ev now, without changing anything.
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

// RecordExit makes the child's exit visible to State and Wait, and stops the
// input. The first exit of a life wins. It returns the phase until then.
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
	p.endLifeLocked(Exit{Status: e.Status, At: e.At})
	return was, p.io
}

// endLifeLocked fulfils the promise, once; the caller holds p.mu.
// +checklocks:p.mu
func (p *process) endLifeLocked(e Exit) {
	select {
	case <-p.life.done:
	default:
		p.life.exit = e
		close(p.life.done)
	}
}

// endLife ends a life that had no process, with an unknown status.
func (p *process) endLife() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLifeLocked(Exit{Status: reaper.UnknownStatus})
}

// renewLife gives a process whose start failed a new promise for its next one.
func (p *process) renewLife() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.life.done:
		p.life = newPromise()
	default:
	}
}

// setIO publishes the opened streams and applies what was asked before.
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

// perform runs fn, a verb, behind the gate. fn gets the shim's context: a
// caller that goes away does not take a half-done runc with it. ctx bounds only
// how long the caller waits.
func (p *process) perform(ctx context.Context, fn func(context.Context) error) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	return detach(ctx, p.env.Context, func(ctx context.Context) error {
		defer p.gate.leave()
		return fn(ctx)
	})
}

// enter takes the gate; a caller that stops waiting has not taken it.
func (p *process) enter(ctx context.Context) error {
	if err := p.gate.enter(ctx); err != nil {
		return fmt.Errorf("wait for another operation on process %s: %w", p.id, err)
	}
	return nil
}

// detach runs fn in a goroutine with the context run and waits for it until
// caller ends. The goroutine inherits the caller's profiling labels.
func detach(caller, run context.Context, fn func(context.Context) error) error {
	result := make(chan error, 1) // sent to once; nobody may be left to receive
	go func() { result <- guard.Call("operation", func() error { return fn(run) }) }()
	select {
	case err := <-result:
		return err
	case <-caller.Done():
		return fmt.Errorf("gave up waiting, the operation goes on: %w", caller.Err())
	}
}

// Detach runs fn under the shim's context; see perform.
func (e *Env) Detach(ctx context.Context, fn func(context.Context) error) error {
	return detach(ctx, e.Context, fn)
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
