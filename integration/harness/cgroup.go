// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"containerd-shim.v1/integration/harness/sweep"
)

// cgroupRoot is where the kernel's cgroups are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// Unified reports whether this host has cgroup version 2 alone.
func Unified() bool {
	return unified(cgroupRoot)
}

func unified(root string) bool {
	_, err := os.Stat(filepath.Join(root, "cgroup.controllers"))
	return err == nil
}

// cgroupDir is the directory of a cgroup: in version 1, that in a controller's hierarchy.
func cgroupDir(root, controller, name string) string {
	if unified(root) {
		return filepath.Join(root, name)
	}
	return filepath.Join(root, controller, name)
}

// makeCgroup makes a cgroup beside one that runc has made. Where there is no hierarchy of
// the controller it fails: a directory in its place would be one for whatever mounts
// cgroups later.
func makeCgroup(root, controller, name string) (string, error) {
	dir := cgroupDir(root, controller, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if !unified(root) {
		return dir, nil
	}
	return dir, os.WriteFile(filepath.Join(filepath.Dir(dir), "cgroup.subtree_control"), []byte("+"+controller), 0o600)
}

// Cgroup is a file of the container's cgroup.
func (b *Fixture) Cgroup(controller, file string) string {
	return filepath.Join(cgroupDir(cgroupRoot, controller, sweep.Cgroup(b.c.Dir)), b.ID, file)
}

// Thaw lets the container's processes go on, as somebody else than its runtime.
func (b *Fixture) Thaw() {
	file, value := "freezer.state", "THAWED"
	if Unified() {
		file, value = "cgroup.freeze", "0"
	}
	b.c.Need(os.WriteFile(b.Cgroup("freezer", file), []byte(value), 0), "thaw")
}

// LimitPids puts the shim, and what it starts from now on, into a cgroup that
// has room for spare more threads and processes than there are. A negative
// spare takes the limit away.
func (b *Fixture) LimitPids(spare int) {
	dir, err := makeCgroup(cgroupRoot, "pids", sweep.Cgroup(b.c.Dir)+"-shim")
	b.c.Need(err, "make a cgroup with a limit of pids")
	write := func(file, value string) {
		b.c.Need(os.WriteFile(filepath.Join(dir, file), []byte(value), 0), "set "+file)
	}
	write("cgroup.procs", strconv.Itoa(b.Shim.Pid))
	most := "max"
	if spare >= 0 {
		data, err := os.ReadFile(filepath.Join(dir, "pids.current"))
		b.c.Need(err, "read pids.current")
		n, err := strconv.Atoi(strings.TrimSpace(string(data)))
		b.c.Need(err, "read pids.current")
		most = strconv.Itoa(n + spare)
	}
	write("pids.max", most)
}
