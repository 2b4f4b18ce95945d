// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const child = "SESSION_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := Context()
	defer stop()
	r, w, err := os.Pipe()
	if err == nil {
		err = r.Close()
	}
	if err == nil {
		_, err = w.WriteString("x")
	}
	if !errors.Is(err, unix.EPIPE) {
		os.Exit(3)
	}
	select {
	case <-ctx.Done():
		os.Exit(4) // a pipe of its own is not the session
	case <-time.After(300 * time.Millisecond):
	}
	for ctx.Err() == nil {
		_, _ = os.Stdout.WriteString("line\n") // until its reader is gone
	}
	os.Exit(5)
}

// A program that writes to other pipes, too, ends by itself when its output has no reader, and only then.
func TestReaderGoesAway(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Error(err)
	}
	_ = out.Close()
	_ = cmd.Wait() // its status is looked at
	if got := cmd.ProcessState.ExitCode(); got != 5 {
		t.Errorf("got %v", cmd.ProcessState)
	}
}
