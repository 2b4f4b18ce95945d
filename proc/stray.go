// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"

	"golang.org/x/sys/unix"
)

// findStray looks for a process that a runtime has started without telling its
// pid: a child of the shim that has what this start gave it as its stdio. It
// returns nil if there is none, and for a process with a terminal: that one
// hangs up when the terminal is closed. Of several, which a process leaves that has
// forked and died, one is returned, and the others are killed.
func findStray(ticket *reaper.Ticket, io *stdio.Streams) (stray *reaper.Child) {
	for range 2 { // the kernel may pass over a child when others end while it lists them
		for _, pid := range children() {
			if !io.Owns(pid) {
				continue
			}
			child, err := ticket.Claim(pid, time.Time{}, nil)
			switch {
			case err != nil: // it is known
			case stray == nil:
				stray = child
			default:
				_ = child.Signal(unix.SIGKILL) // it may be dead
			}
		}
	}
	return stray
}

// children lists the shim's own children. Orphans come to any of its threads
// (proc(5): each thread has a list of its own, since Linux 4.2 with
// CONFIG_PROC_CHILDREN). Without those lists all of /proc is looked at.
func children() (pids []int) {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err == nil && len(lists) > 0 {
		for _, l := range lists {
			text, _ := os.ReadFile(l) // fails if the thread has ended, whose children went to another
			for _, f := range bytes.Fields(text) {
				pid, _ := strconv.Atoi(string(f)) // they are numbers
				pids = append(pids, pid)
			}
		}
		return pids
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && parentOf(pid) == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
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
