// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"containerd-shim/proc/stdio"
	"containerd-shim/reaper"
)

// findStray looks for a process that a runtime has started without telling its
// pid: a child of the shim that has what this start gave it as its stdio. It
// returns nil if there is none, and for a process with a terminal: that one
// hangs up when the terminal is closed.
func findStray(ticket *reaper.Ticket, io *stdio.Streams) *reaper.Child {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || parentOf(pid) != os.Getpid() || !io.Owns(pid) {
			continue
		}
		if child, err := ticket.Claim(pid, time.Time{}); err == nil {
			return child
		}
	}
	return nil
}

// parentOf returns the parent's pid, 0 if there is no such process.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// pid (comm) state ppid; comm may hold anything, so from its end.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(string(fields[1])) // 0 if it is not a number
	return ppid
}
