// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"containerd-shim.v1/integration/harness/guest"
	"containerd-shim.v1/integration/harness/sweep"
)

// ProcessWithPid starts a sleeping process of the harness with the given pid.
// Writing N-1 to ns_last_pid makes the kernel try N first; another process may get
// it, so there are several attempts.
func (c *Case) ProcessWithPid(pid int) *exec.Cmd {
	const tries = 500
	for range tries {
		err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0)
		c.Need(err, "set the next pid (needs root and CONFIG_CHECKPOINT_RESTORE)")
		cmd := exec.Command(c.Helper, "sleep")
		cmd.Args[0] = guest.InitName
		cmd.Env = []string{sweep.Mark + "=" + c.Dir}
		c.Need(cmd.Start(), "start process")
		if cmd.Process.Pid == pid {
			return cmd
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed: only to reap it
	}
	c.Need(fmt.Errorf("not in %d tries", tries), fmt.Sprintf("get pid %d", pid))
	return nil
}
