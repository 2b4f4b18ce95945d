// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Root holds one directory for each running harness, named after its pid and
// start time; every case has a directory in it. It is short, because unix
// socket addresses of at most 106 bytes are made below it.
const Root = "/run/shimverify"

// Mark is the environment variable that names the case a process belongs to.
const Mark = "SHIMVERIFY_CASE"

// sweepTime bounds how long a sweep waits for killed processes to be gone.
const sweepTime = 10 * time.Second

// cgroupName is the cgroup of a case's containers, below each hierarchy's root.
func cgroupName(dir string) string {
	return "shimverify-" + strings.ReplaceAll(strings.TrimPrefix(dir, Root+"/"), "/", "-")
}

// Sweep kills every process that belongs to the case directory dir or one
// below it, unmounts what is mounted there, and removes the directory and the
// cgroups. It touches nothing else.
func Sweep(dir string) error {
	if !strings.HasPrefix(dir, Root+"/") {
		return fmt.Errorf("sweep %s: not below %s", dir, Root)
	}
	err := Await(sweepTime, "processes of "+dir+" are gone", func() bool {
		victims := owned(dir)
		for _, pid := range victims {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone: the next look tells
		}
		thaw(dir)
		return len(victims) == 0
	})
	mounts := MountsUnder(dir)
	slices.Reverse(mounts)
	for _, m := range mounts {
		err = errors.Join(err, unix.Unmount(m, unix.MNT_DETACH))
	}
	for _, cg := range cgroups(dir) {
		err = errors.Join(err, removeCgroup(cg))
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// owned lists the living processes of dir: those that carry its mark, those in
// its cgroups, and `runc init` processes, which carry neither before runc has
// moved them, below the former.
func owned(dir string) []int {
	all := Processes()
	mine := map[int]bool{}
	for _, p := range all {
		if p.State != 'Z' && p.State != 'X' && environ(p.Pid, Mark+"="+dir) {
			mine[p.Pid] = true
		}
	}
	for _, cg := range cgroups(dir) {
		_ = filepath.WalkDir(cg, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil // cgroups vanish under the walk
			}
			data, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for _, f := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(f); err == nil && Alive(pid) {
					mine[pid] = true
				}
			}
			return nil
		})
	}
	for range all { // until no more descendants are found, at most once each
		grown := false
		for _, p := range all {
			if mine[p.Parent] && !mine[p.Pid] && p.State != 'Z' {
				mine[p.Pid], grown = true, true
			}
		}
		if !grown {
			break
		}
	}
	delete(mine, os.Getpid())
	out := make([]int, 0, len(mine))
	for pid := range mine {
		out = append(out, pid)
	}
	return out
}

// cgroups finds the case's cgroups in every hierarchy: one directory deep for
// version 1, at the root for version 2.
func cgroups(dir string) []string {
	name := cgroupName(dir) + "*"
	v1, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", name))
	v2, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", name))
	return append(v1, v2...)
}

// thaw lets frozen processes take their SIGKILL.
func thaw(dir string) {
	for _, cg := range cgroups(dir) {
		_ = filepath.WalkDir(cg, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "freezer.state" {
				_ = os.WriteFile(path, []byte("THAWED"), 0)
			}
			if err == nil && d.Name() == "cgroup.freeze" {
				_ = os.WriteFile(path, []byte("0"), 0)
			}
			return nil
		})
	}
}

func removeCgroup(cg string) error {
	var dirs []string
	_ = filepath.WalkDir(cg, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs)
	// A dead process leaves its cgroup only after it has been reaped.
	return Await(sweepTime, "cgroup "+cg+" is removed", func() bool {
		for _, d := range dirs {
			_ = unix.Rmdir(d)
		}
		_, err := os.Stat(cg)
		return os.IsNotExist(err)
	})
}

// SweepAbandoned removes what harnesses left that are no longer alive: their
// directory's name holds the pid and start time of its owner.
func SweepAbandoned() error {
	entries, err := os.ReadDir(Root)
	if os.IsNotExist(err) {
		return nil
	}
	var errs []error
	for _, e := range entries {
		var pid int
		var start uint64
		if _, err := fmt.Sscanf(e.Name(), "%d-%d", &pid, &start); err != nil {
			continue // not made by this package
		}
		if p, ok := ReadProcess(pid); ok && p.StartTime == start {
			continue
		}
		errs = append(errs, Sweep(filepath.Join(Root, e.Name())))
	}
	return errors.Join(append(errs, err)...)
}
