// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/internal/state"
)

// TestCheckAsksTheNewProgramAlone: the program that is asked whether it can read the state
// runs as the host's root. With the arguments of a process that only looks like a shim it
// was a shim that served whom that process liked: "--" hid -adopt and -check.
func TestCheckAsksTheNewProgramAlone(t *testing.T) {
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "state"), filepath.Join(dir, "s")
	if err := state.Write(file, &state.Shim{Container: &state.Container{Process: state.Process{ID: "c", Phase: state.Created}, Bundle: "/b", Runtime: "runc"}}); err != nil {
		t.Fatal(err)
	}
	posing := exec.Command("sh", "-c", "read -r _ || true", "-namespace", "moby", "-workdir", "/x/moby/c", "-socket", "unix://"+socket, "--")
	in, err := posing.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := posing.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = posing.Wait() }() // it ends with its input
	defer func() { _ = in.Close() }()
	s := &scan.Shim{PID: posing.Process.Pid}
	for _, c := range []struct{ binary, file, want string }{
		{shimtest.Own(t), file, ""},
		{shimtest.Own(t), filepath.Join(dir, "none"), "cannot read the state"},
		{"/bin/true", file, "it does not say so"}, // any other program
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := check(ctx, s, c.binary, c.file)
		if ctx.Err() != nil {
			t.Errorf("%s: it did not end", c.binary)
		}
		cancel()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: got %v, want %q", c.binary, c.file, err, c.want)
		}
		if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: it serves %s: %v", c.binary, socket, err)
		}
	}
}
