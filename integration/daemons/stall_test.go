// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// stallOnStart is a runc that, after "start", stops the process whose pid is in
// DIR/stop, so that containerd does not read the shim's reply.
const stallOnStart = `#!/bin/sh
/usr/sbin/runc "$@"
status=$?
case " $* " in
*" start "*) [ -e %[1]s/stop ] && kill -STOP $(cat %[1]s/stop) ;;
esac
exit $status
`

// F20: containerd is stopped for two seconds between the shim's reply to Start and its
// own start event, and the container ends meanwhile. dockerd must see the end: if the
// exit overtakes the start, it shows the container as running for ever.
func TestExitDoesNotOvertakeTheStartOfAStalledDaemon(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "runc"), fmt.Appendf(nil, stallOnStart, dir), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	r := withDockerd(t)
	pid := r.containerd.cmd.Process.Pid
	stop := filepath.Join(dir, "stop")
	for round := range 3 {
		if err := os.WriteFile(stop, []byte(strconv.Itoa(pid)), 0o600); err != nil {
			t.Fatal(err)
		}
		resumed := make(chan bool, 1)
		go func() {
			stopped := wait.Until(commandLimit, func() bool { p, _ := procfs.Read(pid); return p.State == 'T' })
			_ = os.Remove(stop) // it exists
			<-time.After(2 * time.Second)
			resumed <- syscall.Kill(pid, syscall.SIGCONT) == nil && stopped
		}()
		id := container(t, r, nil, "sh", "-c", "exit 3")
		if !<-resumed {
			t.Fatal("containerd was not stopped, or did not go on")
		}
		if got := ended(t, r, id); got != "3" {
			t.Errorf("round %d: exit code %s, want 3", round, got)
		}
	}
}
