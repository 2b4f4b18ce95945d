// SPDX-License-Identifier: Apache-2.0

// Package evidence collects what is worth knowing about a shim, before a repair or
// for a bug report.
//
// It reads nothing that may hold a secret: no environment, no config.json, no
// container output, no command line but the shim's own (names and paths), and only
// the names of other processes.
package evidence

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/sanitize"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/internal/atomicfile"
	"containerd-shim.v1/internal/stackdump"
)

// File is one piece of evidence.
type File struct {
	Name string
	Data []byte
}

// Holds says what each file is, for the manual and for shimctl report -list.
var Holds = []struct{ Name, What string }{
	{"shim.json", "what shimctl knows of the shim: ids, build, zombies, verdict"},
	{"stacks.txt", "its goroutines; function arguments in it are numbers"},
	{"explain.txt", "what shimctl explain says of them"},
	{"threads.txt", "state and kernel wait channel of each thread"},
	{"children.txt", "pid, state and name of each child"},
	{"fds.txt", "what each descriptor is: paths, sockets and pipes by number"},
	{"status.txt", "/proc/PID/status"},
	{"host.txt", "kernel and containerd version, time"},
}

// Collect reads the evidence. It puts verdict into shim.json; taken may be nil.
func Collect(root string, s *scan.Shim, verdict any, taken *stacks.Result, daemon string) []File {
	dir := filepath.Join(root, strconv.Itoa(s.PID))
	doc, err := json.MarshalIndent(map[string]any{"schema": "shimctl/v1", "shim": s, "verdict": verdict}, "", "  ")
	if err != nil {
		doc = []byte(err.Error())
	}
	status, _ := os.ReadFile(filepath.Join(dir, "status")) // gone: an empty file says so
	files := []File{
		{"shim.json", doc},
		{"threads.txt", threads(dir)},
		{"children.txt", children(root, dir)},
		{"fds.txt", descriptors(dir)},
		{"status.txt", status},
		{"host.txt", host(daemon)},
	}
	if taken != nil {
		var text strings.Builder
		if _, err := stackdump.Explain(taken.Dump).WriteTo(&text); err != nil {
			text.WriteString(err.Error())
		}
		files = append(files, File{"stacks.txt", append(taken.Text, '\n')}, File{"explain.txt", []byte(text.String())})
	}
	for i := range files {
		files[i].Data = sanitize.Text(files[i].Data)
	}
	return files
}

func threads(dir string) []byte {
	var b []byte
	tasks, _ := filepath.Glob(filepath.Join(dir, "task", "*"))
	for _, t := range tasks {
		wchan, _ := os.ReadFile(filepath.Join(t, "wchan"))
		b = fmt.Appendf(b, "%s %s %q\n", filepath.Base(t), stateAndName(t), wchan)
	}
	return b
}

func children(root, dir string) []byte {
	var b []byte
	lists, _ := filepath.Glob(filepath.Join(dir, "task", "*", "children"))
	for _, l := range lists {
		pids, _ := os.ReadFile(l)
		for _, pid := range strings.Fields(string(pids)) {
			b = fmt.Appendf(b, "%s %s\n", pid, stateAndName(filepath.Join(root, pid)))
		}
	}
	return b
}

// stateAndName is `S "bash"`; a name may hold newlines.
func stateAndName(dir string) string {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if err != nil || open < 0 || end+2 >= len(stat) {
		return "gone"
	}
	return fmt.Sprintf("%c %q", stat[end+2], stat[open+1:end])
}

func descriptors(dir string) []byte {
	var b []byte
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	for _, fd := range fds {
		to, _ := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		b = fmt.Appendf(b, "%s %q\n", fd.Name(), to)
	}
	return b
}

func host(daemon string) []byte {
	var u unix.Utsname
	_ = unix.Uname(&u) // cannot fail with a valid pointer
	return fmt.Appendf(nil, "time: %s\nkernel: %s %s\ncontainerd: %s\n", time.Now().UTC().Format(time.RFC3339),
		unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]), daemon)
}

// kept bounds the directories of one shim: a shim that cannot be healed, and is tried again
// and again, would fill the disk.
const kept = 5

// SaveNew saves the files below dir as what was found of a shim at a time. It returns the
// directory, which is new, and removes the oldest of that shim's if there are too many.
func SaveNew(dir, shim string, at time.Time, files []File) (string, error) {
	base := filepath.Join(dir, shim+"."+at.UTC().Format("20060102T150405"))
	name := base + "Z"
	err := Save(name, files)
	for n := 2; errors.Is(err, os.ErrExist) && n <= kept; n++ { // more than one in a second
		name = fmt.Sprintf("%s.%dZ", base, n)
		err = Save(name, files)
	}
	if err != nil {
		return name, err
	}
	entries, _ := os.ReadDir(dir)
	var others []string // of this shim, without the Z
	for _, e := range entries {
		at, of := strings.CutPrefix(e.Name(), shim+".")
		if of && len(at) > 8 && at[8] == 'T' && e.Name() != filepath.Base(name) { // not of a container whose id begins so
			others = append(others, strings.TrimSuffix(e.Name(), "Z"))
		}
	}
	slices.Sort(others)
	for _, old := range others[:max(0, len(others)-(kept-1))] {
		_ = os.RemoveAll(filepath.Join(dir, old+"Z")) // it is tried again the next time
	}
	return name, nil
}

// Save writes the files into a new directory and returns when they are on the
// disk: the machine may be reset next. After an error there is no such directory.
func Save(dir string, files []File) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, f := range files {
		if err := atomicfile.WriteDurable(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			return errors.Join(err, os.RemoveAll(dir))
		}
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// Archive writes the files as one tar.gz below a directory name.
func Archive(w io.Writer, dir string, files []File) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	now := time.Now()
	for _, f := range files {
		if err := t.WriteHeader(&tar.Header{Name: dir + "/" + f.Name, Mode: 0o600, Size: int64(len(f.Data)), ModTime: now}); err != nil {
			return err
		}
		if _, err := t.Write(f.Data); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}
