// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// entry is one process of the host.
type entry struct {
	Process
	ppid    int
	threads int
}

// ended reports whether it is a zombie. A thread-group leader that has called pthread_exit
// is one by its state, too, but its other threads still count.
func (e *entry) ended() bool { return e.State == "Z" && e.threads == 1 }

// tree is one pass over /proc.
type tree struct {
	root     string
	entries  map[int]*entry
	children map[int][]*entry
	up       func() uint64 // uptime, read once
}

func newTree(root string) (*tree, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, entries: map[int]*entry{}, children: map[int][]*entry{}}
	t.up = sync.OnceValue(t.uptime)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if e := t.stat(pid); e != nil { // nil: it has ended meanwhile
			t.entries[pid] = e
			t.children[e.ppid] = append(t.children[e.ppid], e)
		}
	}
	return t, nil
}

func (t *tree) file(pid int, name string) string {
	return filepath.Join(t.root, strconv.Itoa(pid), name)
}

// stat reads /proc/PID/stat. The command may hold blanks and parentheses, so
// the fields are counted from the last one.
func (t *tree) stat(pid int) *entry {
	b, err := os.ReadFile(t.file(pid, "stat"))
	if err != nil {
		return nil
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return nil
	}
	f := strings.Fields(string(b[end+1:])) // f[0] is field 3, the state
	if len(f) < 20 {
		return nil
	}
	e := &entry{Process: Process{PID: pid, Comm: string(b[open+1 : end]), State: f[0]}}
	e.ppid, _ = strconv.Atoi(f[1])
	e.threads, _ = strconv.Atoi(f[17])
	e.StartTicks, _ = strconv.ParseUint(f[19], 10, 64)
	return e
}

// cmdline is the argument vector; empty for zombies and kernel threads.
func (t *tree) cmdline(pid int) []string {
	b, _ := os.ReadFile(t.file(pid, "cmdline"))
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// tracer returns the pid of the process that traces another, 0 for none.
func (t *tree) tracer(pid int) int {
	s := Shim{PID: pid}
	t.status(&s)
	return s.Tracer
}

// status reads the user, the tracer and the mask of caught signals.
func (t *tree) status(s *Shim) {
	b, _ := os.ReadFile(t.file(s.PID, "status"))
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Uid":
			uid, _, _ := strings.Cut(value, "\t")
			s.UID, _ = strconv.Atoi(uid)
		case "TracerPid":
			s.Tracer, _ = strconv.Atoi(value)
		case "Threads":
			s.Threads, _ = strconv.Atoi(value)
		case "SigCgt":
			s.SigCgt, _ = strconv.ParseUint(value, 16, 64)
		}
	}
}

// anon is resident minus shared pages of statm: the anonymous ones.
func (t *tree) anon(pid int) int64 {
	b, _ := os.ReadFile(t.file(pid, "statm"))
	f := strings.Fields(string(b))
	if len(f) < 3 {
		return 0
	}
	resident, _ := strconv.ParseInt(f[1], 10, 64)
	shared, _ := strconv.ParseInt(f[2], 10, 64)
	return (resident - shared) * int64(os.Getpagesize())
}

// environ looks up one variable of the process's first environment.
func (t *tree) environ(pid int, key string) string {
	b, _ := os.ReadFile(t.file(pid, "environ"))
	for _, kv := range strings.Split(string(b), "\x00") {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	return ""
}

// uptime is in clock ticks, which Linux shows to user space at 100 a second on
// every architecture that containerd runs on.
func (t *tree) uptime() uint64 {
	b, _ := os.ReadFile(filepath.Join(t.root, "uptime"))
	f := strings.Fields(string(b))
	if len(f) == 0 {
		return 0
	}
	seconds, _ := strconv.ParseFloat(f[0], 64)
	return uint64(seconds * TicksPerSecond)
}

// TicksPerSecond is USER_HZ.
const TicksPerSecond = 100
