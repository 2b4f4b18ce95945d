// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Signal sends a signal to the very process that was read, be it a zombie; it is ESRCH if that has been
// reaped, whoever has its pid now. What else is known of the process must be looked up after it was read.
// Only on kernels without pidfds, before 5.3, can the pid change hands between the look here and the signal.
func (p Process) Signal(signal unix.Signal) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	switch {
	case err == nil:
		defer unix.Close(fd)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM): // by a seccomp profile that is older than the call
		fd = -1
	default:
		return os.NewSyscallError("pidfd_open", err)
	}
	if now, ok := Read(p.Pid); !ok || now.StartTime != p.StartTime {
		return unix.ESRCH
	}
	if fd < 0 {
		return os.NewSyscallError("kill", unix.Kill(p.Pid, signal))
	}
	return os.NewSyscallError("pidfd_send_signal", unix.PidfdSendSignal(fd, signal, nil, 0))
}
