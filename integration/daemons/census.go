// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/sweep"
	"containerd-shim.v1/integration/harness/wait"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	// runcRoot and socketRoot are fixed in containerd, whatever its state directory is.
	runcRoot   = "/run/containerd/runc"
	socketRoot = "/run/containerd/s"
	// settleLimit is how long daemons and shims may take to clean up themselves.
	settleLimit = 10 * time.Second
)

// Leftover is a thing of a Rig that has outlived its container.
type Leftover struct {
	Kind string // process, mount, cgroup, fifo, state, socket, file
	Path string // its path, or the pid
	Note string // the command line of a process
}

func (l Leftover) String() string { return strings.TrimSpace(l.Kind + " " + l.Path + " " + l.Note) }

// Leftovers returns what exists of this Rig besides its daemons and the direct
// children of this process. It must be empty once there are no containers. It finds
// things by the Rig's directory and cgroup, never by a program's name.
func (r *Rig) Leftovers() ([]Leftover, error) {
	fifos, err := r.fifos()
	return slices.Concat(r.processes(), r.mounts(), r.cgroups(), fifos, r.states(), r.sockets(),
		there("file", r.path("tmp", "*"))), err // TMPDIR of containerd, and so of its shims and of runc
}

// there returns a Leftover for every path that one of the patterns matches.
func there(kind string, patterns ...string) []Leftover {
	var found []Leftover
	for _, pattern := range patterns {
		paths, _ := filepath.Glob(pattern) // the patterns are right
		for _, p := range paths {
			found = append(found, Leftover{Kind: kind, Path: p})
		}
	}
	return found
}

// settled waits, for settleLimit, until nothing is left except but, and returns what
// still is.
func (r *Rig) settled(but ...Leftover) (left []Leftover, err error) {
	wait.Until(settleLimit, func() bool {
		left, err = r.Leftovers()
		left = slices.DeleteFunc(left, func(l Leftover) bool { return slices.Contains(but, l) })
		return err == nil && len(left) == 0
	})
	return left, err
}

// others are the processes of the Rig, without the direct children of this process.
func (r *Rig) others() []procfs.Process {
	return slices.DeleteFunc(procfs.All(), func(p procfs.Process) bool {
		return p.Pid == os.Getpid() || p.Parent == os.Getpid() || !r.started(p.Pid)
	})
}

func (r *Rig) processes() []Leftover {
	var found []Leftover
	for _, p := range r.others() {
		found = append(found, Leftover{"process", strconv.Itoa(p.Pid), procfs.Command(p.Pid)})
	}
	return found
}

// started reports whether a process comes from the Rig: from a container, or from a daemon, whose
// temporary directory its shims and their runtimes inherit, or from a program of its directory. That its
// arguments name the directory says nothing: somebody may be reading a log there.
func (r *Rig) started(pid int) bool {
	if tmp, ok := procfs.Env(pid, "TMPDIR"); ok && tmp == r.path("tmp") || procfs.InCgroup(pid, r.Name) {
		return true
	}
	exe, err := os.Readlink(procfs.File(pid, "exe"))
	return err == nil && strings.HasPrefix(exe, r.Dir+"/")
}

func (r *Rig) mounts() []Leftover {
	var found []Leftover
	for _, point := range procfs.MountsUnder(r.Dir) {
		if point != r.path("docker", "root") && point != r.path("state") {
			found = append(found, Leftover{Kind: "mount", Path: point})
		}
	}
	return found
}

// cgroups finds the children of /NAME and /NAME/docker in every hierarchy; those two
// themselves are removed only by purge.
func (r *Rig) cgroups() []Leftover {
	own := filepath.Join(cgroupRoot, "*", r.Name)
	return slices.DeleteFunc(there("cgroup", filepath.Join(own, "*"), filepath.Join(own, "docker", "*")), func(l Leftover) bool {
		info, err := os.Stat(l.Path)
		return err != nil || !info.IsDir() || filepath.Base(l.Path) == "docker"
	})
}

// fifos finds FIFOs in the directories in which daemon and shim make them; those of ctr
// are elsewhere.
func (r *Rig) fifos() ([]Leftover, error) {
	var found []Leftover
	for _, root := range []string{r.path("state"), r.path("root", Runtime), r.path("docker", "exec")} {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed while we looked
			}
			if err == nil && d.IsDir() && d.Name() == "rootfs" {
				return fs.SkipDir // the container's own files
			}
			if err == nil && d.Type() == fs.ModeNamedPipe {
				found = append(found, Leftover{Kind: "fifo", Path: p})
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// states finds runc's state directories and the shims' bundles and work directories.
func (r *Rig) states() []Leftover {
	// crun keeps a hidden directory of its own beside those of the containers.
	return there("state", filepath.Join(runcRoot, r.Name, "[^.]*"), r.path("docker", "exec", "runtime-*", dockerNamespace, "*"),
		r.path("state", Runtime, "*", "*"), r.path("root", Runtime, "*", "*"))
}

func (r *Rig) sockets() []Leftover {
	var paths []string
	for id, ns := range r.known() {
		paths = append(paths, r.socket(ns, id))
	}
	return there("socket", paths...)
}

// socket is where containerd 1.3.9 and later listens on a shim's behalf.
func (r *Rig) socket(namespace, id string) string {
	sum := sha256.Sum256([]byte(filepath.Join(r.Address(), namespace, id)))
	return filepath.Join(socketRoot, hex.EncodeToString(sum[:]))
}

// purge removes by force whatever is left, and then the directory, unless something is
// still mounted below it.
func (r *Rig) purge() error {
	cgroups, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", r.Name)) // the pattern is right
	if !wait.Until(settleLimit, func() bool {
		found := r.others()
		for _, p := range found {
			_ = p.Signal(syscall.SIGKILL) // it may be gone: the next look tells
		}
		sweep.Thaw(cgroups...)
		return len(found) == 0
	}) {
		return fmt.Errorf("%s kept: processes live on: %v", r.Dir, r.processes())
	}
	var errs []error
	// dockerd bind-mounts its data root on itself, and leaves it mounted for live
	// restore; chaos has a file system for the state directory.
	errs = append(errs, sweep.Unmount(r.Dir))
	for _, cg := range cgroups {
		errs = append(errs, sweep.RemoveCgroup(cg))
	}
	for id, ns := range r.known() {
		_ = os.Remove(r.socket(ns, id)) // mostly not there
	}
	errs = append(errs, os.RemoveAll(filepath.Join(runcRoot, r.Name)))
	if mounts := procfs.MountsUnder(r.Dir); len(mounts) > 0 {
		return errors.Join(append(errs, fmt.Errorf("%s kept: %v are mounted below it", r.Dir, mounts))...)
	}
	return errors.Join(append(errs, os.RemoveAll(r.Dir))...)
}
