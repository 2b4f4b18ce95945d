// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"encoding/json"
	"fmt"

	"containerd-shim.v1/internal/state"
)

// Streams are a process's streams, which may outlive it.
type Streams interface {
	// Interrupt stops the copying once Env.Streaming is shut.
	Interrupt()
	// Save returns their state while they stand still, nil if they have ended.
	Save() (*state.Streams, error)
	// Ended reports whether they have.
	Ended() bool
}

// Streams returns the open streams, nil if there never were any.
func (p *process) Streams() Streams {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.io == nil {
		return nil
	}
	return p.io
}

// statePhases are the phases that a process may have while no verb is at work.
var statePhases = map[Phase]state.Phase{
	Created: state.Created, Running: state.Running, Paused: state.Paused,
	Stopped: state.Stopped, Deleted: state.Stopped,
}

// save returns the state of the process while no verb is at work and its streams
// stand still.
func (p *process) save() (st state.Process, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st = state.Process{
		ID: p.id, Pid: p.pid, Stdin: p.names.Stdin, Stdout: p.names.Stdout, Stderr: p.names.Stderr,
		Terminal: p.names.Terminal, StdinClosed: p.stdinEOF,
	}
	ok := false
	if st.Phase, ok = statePhases[p.phase]; !ok {
		return st, fmt.Errorf("process %s is %v", p.id, p.phase)
	}
	if p.size != nil {
		st.Size = &state.Size{Width: p.size.Width, Height: p.size.Height}
	}
	select {
	case <-p.attempt.done:
		st.Exit = &state.Exit{Status: p.attempt.exit.Status, At: p.attempt.exit.At}
	default:
	}
	if p.io != nil {
		if st.Streams, err = p.io.Save(); err != nil {
			return st, fmt.Errorf("process %s: %w", p.id, err)
		}
	}
	return st, nil
}

// Save returns the state of the container while no verb is at work and its streams
// stand still, or why that cannot be told. A checkpoint that waits to be restored is
// refused: it is there for a moment only.
func (p *Init) Save() (*state.Container, error) {
	if p.unrestored() {
		return nil, fmt.Errorf("process %s: its checkpoint is not restored yet", p.id)
	}
	st, err := p.save()
	if err != nil {
		return nil, err
	}
	c := &state.Container{
		Process: st, Bundle: p.config.Bundle, Runtime: p.config.Runtime, Checkpoint: p.config.Checkpoint,
		NoPivotRoot: p.config.NoPivotRoot, NoNewKeyring: p.config.NoNewKeyring,
		IoUID: p.config.IoUID, IoGID: p.config.IoGID, CriuWorkPath: p.config.CriuWorkPath,
	}
	for _, m := range p.rootfs.mounts {
		c.Rootfs = append(c.Rootfs, state.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return c, nil
}

// Save is Init.Save for an exec.
func (p *Exec) Save() (e state.Exec, err error) {
	if e.Process, err = p.save(); err == nil && e.Phase == state.Created {
		e.Spec, err = json.Marshal(p.spec)
	}
	return e, err
}
