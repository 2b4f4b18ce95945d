// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"

	"golang.org/x/sys/unix"
)

// strayTime bounds findStray's wait for memory and descriptors.
const strayTime = 10 * time.Second

// findStray looks for a process that a runtime has started without telling its
// pid: a child of the shim that has what this start gave it as its stdio. It
// returns nil if there is none, and for a process with a terminal: that one
// hangs up when the terminal is closed. If the process has forked and
// died there may be several: one is returned, and the others are killed. It looks even if
// ctx has ended.
func findStray(ctx context.Context, ticket *reaper.Ticket, io *stdio.Streams) (stray *reaper.Child) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), strayTime)
	defer cancel()
	for range 2 { // the kernel may pass over a child when others end while it lists them
		for _, pid := range children(ctx) {
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
// CONFIG_PROC_CHILDREN). Without those lists all of /proc is looked at. As long as ctx
// lasts children waits for the memory and the descriptors that this takes.
func children(ctx context.Context) (pids []int) {
	listed := false
	for _, thread := range list(ctx, "/proc/self/task") {
		text, err := read(ctx, "/proc/self/task/"+thread+"/children")
		if err != nil {
			continue // the thread has ended, and its children went to another
		}
		listed = true
		for _, f := range bytes.Fields(text) {
			pid, _ := strconv.Atoi(string(f)) // they are numbers
			pids = append(pids, pid)
		}
	}
	if listed {
		return pids
	}
	for _, name := range list(ctx, "/proc") {
		if pid, err := strconv.Atoi(name); err == nil && parentOf(ctx, pid) == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func list(ctx context.Context, dir string) (names []string) {
	entries, _ := errclass.WhileExhausted(ctx, func() ([]fs.DirEntry, error) { return os.ReadDir(dir) })
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func read(ctx context.Context, path string) ([]byte, error) {
	return errclass.WhileExhausted(ctx, func() ([]byte, error) { return os.ReadFile(path) })
}

// parentOf returns the parent's pid, 0 if there is no such process.
func parentOf(ctx context.Context, pid int) int {
	stat, err := read(ctx, fmt.Sprintf("/proc/%d/stat", pid))
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
