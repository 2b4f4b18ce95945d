// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// childBinary is internal/child, built by TestMain.
var childBinary string

// testReaper is the one Reaper of the test process, so that -count works.
var testReaper *Reaper

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "reaper")
	if err != nil {
		fail(err)
	}
	childBinary = filepath.Join(dir, "child")
	build := exec.Command("go", "build", "-o", childBinary, "./internal/child")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fail(err)
	}
	if err := SetSubreaper(); err != nil {
		fail(err)
	}
	testReaper = New()
	code := m.Run()
	if n := zombies(); n != 0 {
		fmt.Fprintf(os.Stderr, "%d zombies left\n", n)
		code = 1
	}
	testReaper.Close()
	if err := goleak.Find(goleak.IgnoreAnyFunction("os/signal.loop")); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fail(err)
	}
	return n
}

func roleCmd(role string, args ...string) *exec.Cmd {
	return exec.Command(childBinary, append([]string{role}, args...)...)
}

// zombies counts children of this process that are dead and unreaped after a
// moment's grace.
func zombies() int {
	n := 0
	wait.Until(5*time.Second, func() bool {
		n = 0
		if _, dead, _ := peek(unix.P_ALL, 0); dead {
			n = 1
		}
		return n == 0
	})
	return n
}
