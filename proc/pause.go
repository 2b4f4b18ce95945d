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

	"containerd-shim/proc/internal/errclass"
)

// Pause freezes the container. Its phase is Pausing while the runtime works.
func (p *Init) Pause(ctx context.Context) error {
	return p.perform(ctx, func(ctx context.Context) error {
		if err := p.apply(WantPause); err != nil {
			return err
		}
		if err := p.runtime.Pause(ctx, p.id); err != nil {
			return errors.Join(err, p.apply(DidNotPause))
		}
		return p.apply(DidPause)
	})
}

// Resume thaws it.
func (p *Init) Resume(ctx context.Context) error {
	return p.perform(ctx, func(ctx context.Context) error {
		if err := p.ask(WantResume); err != nil {
			return err
		}
		if err := p.runtime.Resume(ctx, p.id); err != nil {
			return err
		}
		return p.apply(DidResume)
	})
}

// Checkpoint writes a CRIU image of the container.
func (p *Init) Checkpoint(ctx context.Context, o CheckpointOptions) error {
	return p.perform(ctx, func(ctx context.Context) error {
		if err := p.ask(WantCheckpoint); err != nil {
			return err
		}
		if o.WorkPath == "" {
			o.WorkPath = filepath.Join(p.env.WorkDir, "criu-work")
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
	})
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
