// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"fmt"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/internal/testmain"

	"golang.org/x/sys/unix"
)

// childBinary is internal/child, built by TestMain.
var childBinary string

// testReaper is the one Reaper of the test process, so that -count works.
var testReaper *Reaper

func TestMain(m *testing.M) {
	var dir string
	childBinary, dir = testmain.Build("./internal/child")
	testmain.Must(SetSubreaper())
	testReaper = New(StartForker())
	status := m.Run()
	var err error
	if n := zombies(); n != 0 {
		err = fmt.Errorf("%d zombies left", n)
	}
	testReaper.Close()
	testmain.End(status, dir, err)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	testmain.Must(err)
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
