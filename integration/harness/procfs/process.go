// SPDX-License-Identifier: Apache-2.0

// Package procfs reads for tests what /proc says about processes, what they hold, and
// mounts. It is a snapshot: a moment later the pid may belong to another process, which
// Process.Signal does not hit.
package procfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is /proc/PID/stat.
type Process struct {
	Pid       int
	Parent    int
	State     byte // R, S, D, Z, T ...
	Threads   int
	StartTime uint64        // in clock ticks since boot: with Pid, a process's identity
	CPU       time.Duration // what all threads have used, user and system
	Comm      string
}

// tick is the unit of CPU times: USER_HZ is 100 on every architecture that Go
// runs Linux on (proc(5)).
const tick = 10 * time.Millisecond

// Read reads one process; ok is false if there is none.
func Read(pid int) (p Process, ok bool) {
	data, err := os.ReadFile(File(pid, "stat"))
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
	number := func(field string) int64 { n, _ := strconv.ParseInt(field, 10, 64); return n } // the kernel writes numbers
	return Process{
		Pid: pid, State: f[0][0], Comm: string(data[open+1 : end]),
		Parent: int(number(f[1])), Threads: int(number(f[17])), StartTime: uint64(number(f[19])),
		CPU: time.Duration(number(f[11])+number(f[12])) * tick,
	}, true
}

// File is a file of the process below /proc.
func File(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// Dead reports whether the process is a zombie, or is just being reaped. One whose
// first thread has ended while others run also shows as Z, and is not dead.
func (p Process) Dead() bool { return p.Reapable() || p.State == 'X' }

// Reapable reports whether the process can be waited for: a thread-group leader
// that ended before its threads also shows as Z.
func (p Process) Reapable() bool { return p.State == 'Z' && p.Threads <= 1 }

// Alive reports whether pid is a process that is not a zombie.
func Alive(pid int) bool {
	p, ok := Read(pid)
	return ok && !p.Dead()
}

// Exists reports whether pid is a process, be it a zombie: it is false once the
// process has been reaped.
func Exists(pid int) bool {
	_, ok := Read(pid)
	return ok
}

// All lists all processes.
func All() []Process {
	var out []Process
	for _, pid := range numbers("/proc") {
		if p, ok := Read(pid); ok {
			out = append(out, p)
		}
	}
	return out
}

// Children lists the processes whose parent is pid.
func Children(pid int) []Process {
	var out []Process
	for _, p := range All() {
		if p.Parent == pid {
			out = append(out, p)
		}
	}
	return out
}

// numbers lists the entries of dir whose names are numbers.
func numbers(dir string) []int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// Command returns pid's command line with spaces between the arguments; "" for a
// zombie and for a process that is gone.
func Command(pid int) string {
	data, _ := os.ReadFile(File(pid, "cmdline")) // "" where it cannot be read
	return strings.ReplaceAll(strings.TrimSuffix(string(data), "\x00"), "\x00", " ")
}

// Env is a variable of the environment that pid was started with; ok is false
// if it has none of that name.
func Env(pid int, name string) (value string, ok bool) {
	data, err := os.ReadFile(File(pid, "environ"))
	if len(data) == 0 { // the first thread has ended: the others have it. Linux 6.18 says ESRCH, older ones nothing.
		for _, tid := range numbers(File(pid, "task")) {
			if data, err = os.ReadFile(File(tid, "environ")); len(data) > 0 {
				break
			}
		}
	}
	if err != nil {
		return "", false
	}
	for entry := range strings.SplitSeq(string(data), "\x00") {
		if value, ok = strings.CutPrefix(entry, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// InCgroup reports whether pid is at or below the cgroup name, which is at the
// root of any hierarchy.
func InCgroup(pid int, name string) bool {
	data, err := os.ReadFile(File(pid, "cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) == 3 && strings.HasPrefix(f[2]+"/", "/"+name+"/") {
			return true
		}
	}
	return false
}

// Cgroup returns the cgroup of pid in the version 1 hierarchy of a controller.
func Cgroup(pid int, controller string) (path string, ok bool) {
	data, err := os.ReadFile(File(pid, "cgroup"))
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) == 3 && slices.Contains(strings.Split(f[1], ","), controller) {
			return f[2], true
		}
	}
	return "", false
}

// Anonymous is the process's anonymous memory in bytes.
func Anonymous(pid int) (int64, error) {
	data, err := os.ReadFile(File(pid, "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "Anonymous:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no Anonymous line in smaps_rollup of %d", pid)
}

// Pending reports whether the kernel still holds the signal for the process.
func Pending(pid int, signal syscall.Signal) bool {
	data, err := os.ReadFile(File(pid, "status"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if mask, ok := strings.CutPrefix(line, "ShdPnd:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && bits&(1<<(uint(signal)-1)) != 0
		}
	}
	return false
}

// Spent is the processor time of this process so far: the machine may do
// something else meanwhile.
func Spent() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail with a valid pointer
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
