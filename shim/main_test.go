// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/internal/testmain"
	"containerd-shim.v1/reaper"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

var (
	// childBinary is reaper/internal/child, built by TestMain: a container's
	// process.
	childBinary string
	// testReaper is the one Reaper of the test process.
	testReaper *reaper.Reaper
)

func TestMain(m *testing.M) {
	if socket := os.Getenv("SHIM_TEST_PEER"); socket != "" {
		os.Exit(peer(socket))
	}
	logrus.SetOutput(io.Discard)
	var dir string
	childBinary, dir = testmain.Build("containerd-shim.v1/reaper/internal/child")
	testmain.Must(reaper.SetSubreaper())
	testReaper = reaper.New(reaper.StartForker())
	status := m.Run()
	testReaper.Close()
	testmain.End(status, dir, noChildren())
}

// noChildren returns an error if a process of a test is left, alive or dead.
func noChildren() error {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err == unix.ECHILD {
		return nil
	}
	return fmt.Errorf("children left (waitid: %v)", err)
}

// soon is how long anything that must happen may take on a busy machine.
const soon = 20 * time.Second

// eventually polls cond until it holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if !wait.Until(soon, cond) {
		t.Fatalf("not within %v: %s", soon, what)
	}
}

// calling calls call in a goroutine, and returns a channel that gets its error.
func calling(call func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- call() }()
	return done
}

// receive waits for a value or the closing of c.
func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(soon):
		t.Fatalf("not within %v: %s", soon, what)
	}
	panic("unreachable")
}
