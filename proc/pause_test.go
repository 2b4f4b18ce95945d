// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// F24: a runtime that is killed after it has done its work. What counts is what
// the container is, and the next verb is allowed.
func TestPauseAndResumeFollowWhatIs(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	p := running(t, f, InitConfig{})
	errKilled := errors.New("killed")
	f.after = map[string]func(context.Context) error{}
	verb := func(name string) error {
		if name == "pause" {
			return p.Pause(t.Context())
		}
		return p.Resume(t.Context())
	}
	for i, step := range []struct {
		verb   string
		err    error  // of the runtime's verb
		status string // what the runtime calls the container; "" fails
		want   error
		phase  Phase
	}{
		{"pause", errKilled, "paused", nil, Paused},
		{"resume", errKilled, "running", nil, Running},
		{"pause", errKilled, "running", errKilled, Running},
		{"pause", nil, "", nil, Paused},
		{"resume", errKilled, "paused", errKilled, Paused},
		{"resume", errKilled, "", errKilled, Paused},
		{"resume", nil, "", nil, Running},
		{"pause", errKilled, "", errKilled, Running}, // it is paused, but nobody says so
		{"resume", nil, "paused", nil, Running},      // and the next verb repairs it
		{"pause", nil, "running", nil, Paused},
		{"pause", nil, "running", nil, Paused}, // somebody else had thawed it
	} {
		f.after[step.verb] = failing(step.err)
		f.after["state"] = nil
		if step.status == "" {
			f.after["state"] = failing(errors.New("no answer"))
		}
		f.mu.Lock()
		f.status = step.status
		f.mu.Unlock()
		if err := verb(step.verb); !errors.Is(err, step.want) || step.want == nil && err != nil {
			t.Errorf("%d, %s: got %v, want %v", i, step.verb, err, step.want)
		}
		if got := p.Snapshot().Phase; got != step.phase {
			t.Errorf("%d, %s: the container is %v, want %v", i, step.verb, got, step.phase)
		}
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Error(err)
	}
}

// crun 1.21 does not make CRIU's work directory, as runc does, and no checkpoint went well.
func TestCheckpointHasAWorkDirectory(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	p := running(t, f, InitConfig{})
	work := filepath.Join(p.env.WorkDir, "criu-work")
	f.after = map[string]func(context.Context) error{"checkpoint": func(context.Context) error {
		_, err := os.Stat(work)
		return err
	}}
	for range 2 { // what the first leaves is not in the second's way
		if err := p.Checkpoint(t.Context(), CheckpointOptions{}); err != nil {
			t.Error(err)
		}
	}
	if !f.called("checkpoint " + work) {
		t.Error("the runtime was not told the work directory")
	}
	if _, err := os.Stat(work); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the work directory is still there: %v", err)
	}
}

// TestCheckpointWithoutSpace: the client can tell a full disk from a fault.
func TestCheckpointWithoutSpace(t *testing.T) {
	census(t)
	p := running(t, &fakeRuntime{process: []string{"sleep"}}, InitConfig{})
	p.env.WorkDir = t.TempDir()
	if err := unix.Mount("tmpfs", p.env.WorkDir, "tmpfs", 0, "nr_inodes=1"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(p.env.WorkDir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	if err := p.Checkpoint(t.Context(), CheckpointOptions{}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("%v, want ResourceExhausted", err)
	}
}
