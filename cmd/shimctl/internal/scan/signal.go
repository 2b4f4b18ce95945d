// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Signal sends a signal to the very process that was scanned: SIGKILL, or one for which it
// has a handler at this moment, since any other could end it. Where the kernel has
// pidfds (5.3) the pid cannot pass to another process between the look and the signal.
func Signal(root string, s *Shim, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(s.PID, 0)
	switch {
	case err == nil:
		defer unix.Close(fd)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM): // older than 5.3, or a seccomp profile that is
		fd = -1
	default:
		return fmt.Errorf("pidfd of %d: %w", s.PID, err)
	}
	if !Alive(root, s.PID, s.StartTicks) {
		return fmt.Errorf("shim %d: %w", s.PID, unix.ESRCH)
	}
	if now := (&Shim{PID: s.PID}); signal != unix.SIGKILL {
		if (&tree{root: root}).status(now); !now.Catches(int(signal)) {
			return fmt.Errorf("shim %d has no handler for %s (SigCgt in /proc/PID/status)", s.PID, unix.SignalName(signal))
		}
	}
	if fd >= 0 {
		return os.NewSyscallError("pidfd_send_signal", unix.PidfdSendSignal(fd, signal, nil, 0))
	}
	return os.NewSyscallError("kill", unix.Kill(s.PID, signal))
}
