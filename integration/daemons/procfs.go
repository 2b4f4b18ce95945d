// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// allPids lists the processes of /proc.
func allPids() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func procFile(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// cmdline is a process's command line with spaces; empty for a zombie or when it is gone.
func cmdline(pid int) string {
	data, _ := os.ReadFile(procFile(pid, "cmdline")) // gone counts as empty
	return strings.TrimSpace(string(bytes.ReplaceAll(data, []byte{0}, []byte{' '})))
}

// stat returns state and parent of a process. The command name before them is
// in parentheses and may itself hold any byte.
func stat(pid int) (state byte, ppid int, ok bool) {
	data, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return 0, 0, false
	}
	f := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(f) < 2 {
		return 0, 0, false
	}
	ppid, err = strconv.Atoi(string(f[1]))
	return f[0][0], ppid, err == nil
}

func parent(pid int) int {
	_, ppid, _ := stat(pid)
	return ppid
}

// children lists the direct children of pid with their states. The kernel keeps
// them by the thread that adopted them (CONFIG_PROC_CHILDREN).
func children(pid int) (map[int]byte, error) {
	lists, err := filepath.Glob(procFile(pid, "task/*/children"))
	if err != nil {
		return nil, err
	}
	if len(lists) == 0 {
		return nil, fmt.Errorf("children of %d: %w", pid, os.ErrNotExist)
	}
	kids := map[int]byte{}
	for _, l := range lists {
		data, err := os.ReadFile(l)
		if err != nil {
			continue // the thread has ended, its children are another's
		}
		for _, f := range strings.Fields(string(data)) {
			kid, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("children of %d: %w", pid, err)
			}
			if state, ppid, ok := stat(kid); ok && ppid == pid {
				kids[kid] = state
			}
		}
	}
	return kids, nil
}

// inCgroup reports whether pid sits at or below the top-level cgroup name.
func inCgroup(pid int, name string) bool {
	data, err := os.ReadFile(procFile(pid, "cgroup"))
	if err != nil {
		return false
	}
	for _, line := range strings.Split(string(data), "\n") {
		f := strings.SplitN(line, ":", 3)
		if len(f) == 3 && strings.HasPrefix(f[2]+"/", "/"+name+"/") {
			return true
		}
	}
	return false
}

// anonymous is the Anonymous line of smaps_rollup in bytes.
func anonymous(pid int) (int64, error) {
	data, err := os.ReadFile(procFile(pid, "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "Anonymous:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no Anonymous line in smaps_rollup of %d", pid)
}

func countEntries(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	return len(entries), err
}
