// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A signal for which a process has no handler would end it.
func TestSignalOnlyWhatIsCaught(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, ok := Any("/proc", cmd.Process.Pid)
	if !ok {
		t.Fatal("it is not there")
	}
	s := &Shim{PID: p.PID, StartTicks: p.StartTicks}
	if err := Signal("/proc", s, unix.SIGUSR1); err == nil || !strings.Contains(err.Error(), "no handler for SIGUSR1") {
		t.Errorf("got %v", err)
	}
	if err := Signal("/proc", s, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("it has ended with %v", err)
	}

	got := make(chan os.Signal, 1)
	signal.Notify(got, unix.SIGUSR1)
	defer signal.Stop(got)
	self, _ := Any("/proc", os.Getpid())
	if err := Signal("/proc", &Shim{PID: self.PID, StartTicks: self.StartTicks}, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	<-got
}
