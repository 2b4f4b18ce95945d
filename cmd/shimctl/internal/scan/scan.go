// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Shims lists the shims below root, which is /proc. They are ordered by
// namespace, id and pid.
func Shims(root string) ([]Shim, error) {
	t, err := newTree(root)
	if err != nil {
		return nil, err
	}
	known := builds{}
	var shims []Shim
	for pid := range t.entries {
		if s, ok := t.shim(pid, known); ok {
			shims = append(shims, s)
		}
	}
	slices.SortFunc(shims, func(a, b Shim) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.ID, b.ID), a.PID-b.PID)
	})
	return shims, nil
}

// One reads a single process again. ok is false when it is gone, is not a
// shim, or its pid belongs to another process now.
func One(root string, pid int, startTicks uint64) (Shim, bool) {
	t, err := newTree(root)
	if err != nil || t.entries[pid] == nil {
		return Shim{}, false
	}
	s, ok := t.shim(pid, builds{})
	return s, ok && (startTicks == 0 || s.StartTicks == startTicks)
}

// Alive reports whether the pid still belongs to the process that started then.
func Alive(root string, pid int, startTicks uint64) bool {
	e := (&tree{root: root}).stat(pid)
	return e != nil && e.StartTicks == startTicks && e.State != "Z" && e.State != "X"
}

// Any reads a process that need not be a shim; zombies are there, too.
func Any(root string, pid int) (Process, bool) {
	if pid <= 0 {
		return Process{}, false
	}
	e := (&tree{root: root}).stat(pid)
	if e == nil {
		return Process{}, false
	}
	return e.Process, true
}

// Ended reports whether nothing but its exit is left of a process.
func Ended(root string, pid int) bool {
	e := (&tree{root: root}).stat(pid)
	return e != nil && e.ended()
}

// shim reports whether a process is one, and reads the rest of it then.
func (t *tree) shim(pid int, known builds) (Shim, bool) {
	exe, err := os.Readlink(t.file(pid, "exe"))
	exe, deleted := strings.CutSuffix(exe, " (deleted)")
	s := Shim{PID: pid, Exe: exe, Deleted: deleted, Hidden: errors.Is(err, os.ErrPermission)}
	e := t.entries[pid]
	if !t.resembles(e, exe) {
		return Shim{}, false
	}
	s.StartTicks, s.State = e.StartTicks, e.State
	if up := t.up(); up > e.StartTicks {
		s.Age = time.Duration(up-e.StartTicks) * time.Second / TicksPerSecond
	}
	s.Anon = t.anon(pid)
	t.status(&s)
	if s.Foreign = t.foreign(&s); s.Foreign {
		return s, t.foreignNames(&s, e)
	}
	argv := t.cmdline(pid)
	if len(argv) < 3 || !s.identify(argv) {
		return Shim{}, false
	}
	if parent := t.entries[e.ppid]; parent != nil && parent.Comm == e.Comm && !t.foreignPid(e.ppid) && slices.Equal(argv, t.cmdline(e.ppid)) { // it is the shim's child, between fork and exec of a runc
		return Shim{}, false
	}
	s.Build = known.of(t.file(pid, "exe"))
	t.family(&s)
	if s.Build.Ours && s.StackDir == "" {
		s.StackDir = t.environ(pid, "CONTAINERD_SHIM_STACK_DIR")
	}
	return s, true
}

// resembles reports whether a process may be a shim: by its name, its program, or its working
// directory, which is a bundle. To read the arguments of one that hangs on storage may hang as
// well (proc(5): it takes the lock of its memory), and a host has many that are no shims.
func (t *tree) resembles(e *entry, exe string) bool {
	if named(e, exe) {
		return true
	}
	bundle, err := os.Readlink(t.file(e.PID, "cwd"))
	return err == nil && strings.Contains(bundle, "/io.containerd.runtime.")
}

// named reports whether a process has the name, or its program's file has the name, of a shim.
func named(e *entry, exe string) bool {
	const name = "containerd-shim" // as long as a process's name can be
	return e.Comm == name || e.Comm == ("docker-" + name)[:len(name)] || strings.Contains(filepath.Base(exe), name)
}

// identify reads the flags. A v1 shim has -namespace and a -workdir that ends
// in its namespace and id; a v2 shim has -namespace and -id.
func (s *Shim) identify(argv []string) bool {
	if !strings.Contains(filepath.Base(argv[0]), "containerd-shim") && !strings.Contains(filepath.Base(s.Exe), "containerd-shim") {
		return false
	}
	id := ""
	for i := 1; i < len(argv); i++ {
		name, ok := strings.CutPrefix(argv[i], "-")
		if !ok {
			continue
		}
		name, value, inline := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if !inline && i+1 < len(argv) {
			value = argv[i+1]
		}
		switch name {
		case "namespace":
			s.Namespace = value
		case "workdir":
			s.Workdir = value
		case "address":
			s.Address = value
		case "id":
			id = value
		case "stack-dir":
			s.StackDir = value
		}
	}
	if s.Workdir != "" && filepath.Base(filepath.Dir(s.Workdir)) == s.Namespace {
		s.Kind, s.ID = V1, filepath.Base(s.Workdir)
	} else {
		s.Kind, s.ID = V2, id
	}
	return identifier(s.Namespace) && identifier(s.ID)
}

// identifier reports whether containerd takes s as the name of a namespace or a
// container: up to 76 letters, digits, dots, dashes and underscores, the first
// a letter or digit. Anybody can start a process that looks like a shim; its
// names become parts of file names, metric labels and what a terminal shows.
func identifier(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return s != "" && len(s) <= 76
}

// family reads the shim's children and its container's init.
func (t *tree) family(s *Shim) {
	for _, c := range t.children[s.PID] {
		switch {
		case c.ended() && t.tracer(c.PID) == 0: // otherwise only its tracer can wait for it (ptrace(2))
			s.Zombies = append(s.Zombies, c.Process)
		case c.State != "Z" && t.isRuntime(s.PID, c):
			s.Runcs = append(s.Runcs, t.runtime(c))
		}
	}
	slices.SortFunc(s.Zombies, func(a, b Process) int { return a.PID - b.PID })
	slices.SortFunc(s.Runcs, func(a, b Runtime) int { return cmp.Or(cmp.Compare(a.StartTicks, b.StartTicks), a.PID-b.PID) })
	// The shim's working directory is the bundle, where runc writes init.pid.
	b, err := ReadFile(t.file(s.PID, "cwd/init.pid"), 64)
	if err != nil {
		return
	}
	s.Init.PID, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	if e := t.entries[s.Init.PID]; e != nil && e.StartTicks >= s.StartTicks {
		s.Init.State, s.Init.StartTicks = e.State, e.StartTicks
		if w, err := os.ReadFile(t.file(s.Init.PID, "wchan")); err == nil && string(w) != "0" {
			s.Init.WChan = string(w)
		}
	}
}
