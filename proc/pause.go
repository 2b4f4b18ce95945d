// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"containerd-shim.v1/internal/errclass"
)

// Pause freezes the container. Its phase is Pausing while the runtime works. It
// succeeds if the container is paused in the end.
func (p *Init) Pause(ctx context.Context) error {
	if err := p.applyOrLook(ctx, WantPause); err != nil {
		return err
	}
	err := p.runtime.Pause(ctx, p.id)
	if err == nil {
		return p.apply(DidPause)
	}
	_ = p.apply(DidNotPause) // a fact
	if p.look(ctx) == Paused {
		return nil
	}
	return err
}

// Resume thaws the container, and succeeds if it runs in the end.
func (p *Init) Resume(ctx context.Context) error {
	if err := p.applyOrLook(ctx, WantResume); err != nil {
		return err
	}
	err := p.runtime.Resume(ctx, p.id)
	if err == nil {
		return p.apply(DidResume)
	}
	if p.look(ctx) == Running {
		return nil
	}
	return err
}

// applyOrLook is apply, but tries what the phase does not allow once more after a
// look at the container.
func (p *Init) applyOrLook(ctx context.Context, ev Event) error {
	err := p.apply(ev)
	if err != nil {
		p.look(ctx)
		err = p.apply(ev)
	}
	return err
}

// look asks the runtime whether a running container is paused, and returns the
// phase after that. A runtime that failed, or was killed, may have done its
// work all the same, and the shim is not the only one to pause a container.
func (p *Init) look(ctx context.Context) Phase {
	if phase := p.Snapshot().Phase; phase < Running || phase > Paused {
		return phase
	}
	ctx, cancel := context.WithTimeout(ctx, p.env.Limits.Kill)
	defer cancel()
	status, err := p.runtime.Status(ctx, p.id)
	switch {
	case err != nil:
		p.warn(err, "cannot tell whether the container is paused")
	case status == "paused":
		_ = p.apply(DidPause) // a fact
	case status == "running":
		_ = p.apply(DidResume) // a fact
	}
	return p.Snapshot().Phase
}

// Checkpoint writes a CRIU image of the container.
func (p *Init) Checkpoint(ctx context.Context, o CheckpointOptions) error {
	if err := p.ask(WantCheckpoint); err != nil {
		return err
	}
	if o.WorkPath == "" {
		o.WorkPath = filepath.Join(p.env.WorkDir, "criu-work")
		if err := os.MkdirAll(o.WorkPath, 0o700); err != nil { // runc would make it, crun does not
			return internalf("checkpoint: %w", err)
		}
		defer func() { _ = os.RemoveAll(o.WorkPath) }() // CRIU's scratch; the next one makes it anew
	}
	err := p.runtime.Checkpoint(ctx, p.id, o)
	if err == nil {
		return nil
	}
	log := filepath.Join(p.config.Bundle, "criu-dump.log")
	if copyErr := copyFile(log, filepath.Join(o.WorkPath, "dump.log")); copyErr != nil {
		return err // CRIU never started
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return errclass.With(err, fmt.Errorf("%s path= %s", first, log))
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
