// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"path/filepath"
	"testing"

	"containerd-shim.v1/proc/internal/proctest"
)

// B55: a Create that fails ends its logger.
func TestLoggerOfAFailedCreate(t *testing.T) {
	census(t)
	file := filepath.Join(t.TempDir(), "log")
	f := &fakeRuntime{after: map[string]func(context.Context) error{"create": failing(errRuntime)}}
	p := newTestInit(t, f, InitConfig{Stdio: Stdio{Stdout: proctest.LoggerURI("copy", file)}})
	if err := p.Create(t.Context()); err == nil {
		t.Error("Create succeeded")
	}
}

// A restore that fails ends its logger, and Delete does so again at once.
func TestLoggerOfAFailedRestoreIsStoppedOnce(t *testing.T) {
	census(t)
	file := filepath.Join(t.TempDir(), "log")
	f := &fakeRuntime{after: map[string]func(context.Context) error{"restore": failing(errRuntime)}}
	p := created(t, f, InitConfig{Checkpoint: "/image", Stdio: Stdio{Stdout: proctest.LoggerURI("copy", file)}})
	if err := p.Start(t.Context()); err == nil {
		t.Error("Start succeeded")
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}
