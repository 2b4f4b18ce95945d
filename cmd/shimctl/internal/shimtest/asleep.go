// SPDX-License-Identifier: Apache-2.0

package shimtest

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Asleep starts a fake shim that never answers because one of its threads is
// in uninterruptible sleep, and returns its pid.
func Asleep(t testing.TB) int {
	t.Helper()
	cmd := exec.Command(tool(t, fakeShim), "-namespace", "shimtest", "-workdir", "/run/shimtest/asleep")
	cmd.Dir, cmd.Stderr = t.TempDir(), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ready, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its child, too
		_ = cmd.Wait()                                      // killed, by us
	})
	_, err = bufio.NewReader(ready).ReadString('\n')
	must(t, err)
	return cmd.Process.Pid
}
