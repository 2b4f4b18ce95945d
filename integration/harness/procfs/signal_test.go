// SPDX-License-Identifier: Apache-2.0

package procfs_test

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/procfs"
)

// TestSignalReachesOnlyWhatWasRead: the harness itself gives pids a second time, and what was found in /proc
// was killed by its number.
func TestSignalReachesOnlyWhatWasRead(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	now, ok := procfs.Read(cmd.Process.Pid)
	if !ok {
		t.Fatal("it has no stat")
	}
	earlier := now
	earlier.StartTime-- // had the pid before
	if err := earlier.Signal(unix.SIGTERM); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the process that had the pid before: %v, want ESRCH", err)
	}
	if err := now.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // its status is looked at below
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); s != unix.SIGKILL {
		t.Errorf("it died of %v, want SIGKILL", s)
	}
	if err := now.Signal(unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
		t.Errorf("one that was reaped: %v, want ESRCH", err)
	}
}
