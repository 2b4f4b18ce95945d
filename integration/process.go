// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Process is what /proc says of one process.
type Process struct {
	Pid       int
	Parent    int
	State     byte // R, S, D, Z, T ...
	Threads   int
	StartTime uint64 // in clock ticks since boot: with Pid, a process's identity
	Comm      string
}

// ReadProcess reads /proc/PID/stat; ok is false when there is no such process.
func ReadProcess(pid int) (p Process, ok bool) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return p, false
	}
	// The name is in parentheses and may itself contain spaces and
	// parentheses; the last one ends it.
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return p, false
	}
	f := strings.Fields(string(data[end+1:]))
	if len(f) < 20 {
		return p, false
	}
	p = Process{Pid: pid, State: f[0][0], Comm: string(data[open+1 : end])}
	p.Parent, _ = strconv.Atoi(f[1])
	p.Threads, _ = strconv.Atoi(f[17])
	p.StartTime, _ = strconv.ParseUint(f[19], 10, 64)
	return p, true
}

// Alive reports whether pid is a process that is not a zombie.
func Alive(pid int) bool {
	p, ok := ReadProcess(pid)
	return ok && p.State != 'Z' && p.State != 'X'
}

// Processes lists all processes.
func Processes() []Process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := ReadProcess(pid); ok {
			out = append(out, p)
		}
	}
	return out
}

// Command is how pid was started: its arguments, separated by NULs.
func Command(pid int) string {
	data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")) // "" for one that is gone
	return strings.TrimSuffix(string(data), "\x00")
}

// Children lists the processes whose parent is pid.
func Children(pid int) []Process {
	var out []Process
	for _, p := range Processes() {
		if p.Parent == pid {
			out = append(out, p)
		}
	}
	return out
}

// marked reports whether the process was started with the mark of dir, or of a
// directory below it, in its environment.
func marked(pid int, dir string) bool {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return false
	}
	for entry := range strings.SplitSeq(string(data), "\x00") {
		if value, ok := strings.CutPrefix(entry, Mark+"="); ok {
			return below(value, dir)
		}
	}
	return false
}

// CPUTime is what all threads of pid have used so far.
func CPUTime(pid int) time.Duration {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture of Linux but alpha
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick
}
