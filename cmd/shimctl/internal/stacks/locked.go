// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"os/exec"
	"runtime"
)

// runLocked runs a command from a thread that stays until the command has
// ended: the kernel sends the parent death signal when the thread that forked
// ends, not the process.
func runLocked(cmd *exec.Cmd, done chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	done <- cmd.Run()
}
