// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/state"
)

// outside reads what /proc shows. That takes longer than everything else, so it is done
// before the stop, and still checks that it has not changed.
func (r *reader) outside() (err error) {
	if r.fds, err = readDescriptors(r.pid); err != nil {
		return err
	}
	if r.sockets, err = sockets(r.pid); err != nil {
		return err
	}
	if r.bundle, err = os.Readlink(r.proc("cwd")); err != nil {
		return err
	}
	if r.mounted, err = r.mountedOn(filepath.Join(r.bundle, "rootfs")); err != nil {
		return err
	}
	return r.family()
}

// family sorts the shim's children into the living and the zombies, and finds the
// runtimes among the living.
func (r *reader) family() error {
	children, err := r.children()
	if err != nil {
		return err
	}
	namespace, err := os.Readlink(r.proc("ns/mnt"))
	if err != nil {
		return err
	}
	r.living, r.zombies = map[int]bool{}, map[int]bool{}
	for _, pid := range children {
		if scan.Ended("/proc", pid) {
			r.zombies[pid] = true
			continue
		}
		r.living[pid] = true
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		// Docker puts a script before a runtime with runtimeArgs, and its interpreter stays. A process
		// of the container may have the same arguments, but in another mount namespace, and there they
		// are not read: that may never end (see scan). See atRest for one in the same.
		if its, err := os.Readlink(filepath.Join(dir, "ns/mnt")); err != nil || its != namespace {
			continue
		}
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // empty if it ends meanwhile
		argv := strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")
		if slices.Contains(argv, "--root") && slices.Contains(argv, "--log") { // what go-runc gives it
			r.runtimes = append(r.runtimes, &runtime{pid: pid, args: argv})
		}
	}
	return nil
}

// AtWork reports whether a call of the runtime is underway in a shim, which may run.
func AtWork(pid int) bool {
	r := &reader{pid: pid}
	return r.family() == nil && len(r.runtimes) > 0
}

// proc returns the path of a file in the shim's directory in /proc.
func (r *reader) proc(name string) string { return filepath.Join("/proc", strconv.Itoa(r.pid), name) }

// children returns the pids of all the shim's children. Without CONFIG_PROC_CHILDREN the kernel
// does not tell them (proc(5)), and no shim can be read.
func (r *reader) children() (pids []int, err error) {
	lists, err := filepath.Glob(r.proc("task/*/children"))
	if err == nil && len(lists) == 0 {
		err = fmt.Errorf("%w: the kernel lists no children in /proc", ErrRefused)
	}
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) { // the thread has ended; its children are another's now
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// fifo reports whether an output is a FIFO. One that is gone counts as such, because only
// FIFOs are removed while they are in use. Of a file that is open the type is known
// without its path: the server that it is on may hang, and the shim stands still.
func (r *reader) fifo(o state.Output) bool {
	name := r.proc(fmt.Sprintf("fd/%d", o.To))
	if o.To == 0 {
		name = filepath.Join(r.proc("root"), r.real(o.Path))
	}
	kind, err := scan.FileType(name)
	return err != nil || kind == unix.S_IFIFO
}

// take is descriptors.take for a path that a client gave. It may lead over symbolic links,
// as Docker's default does, /var/run/docker; the kernel shows where they end.
func (r *reader) take(path string, fits func(*descriptor) bool) state.FD {
	if n := r.fds.take(path, fits); n != 0 {
		return n
	}
	return r.fds.take(r.real(path), fits)
}

// real returns the path without symbolic links, as the shim sees it. What does not exist
// any more counts as no link.
func (r *reader) real(path string) string {
	root := r.proc("root")
	real, err := fs.RootPath(root, path)
	if err != nil {
		return path
	}
	return strings.TrimPrefix(real, root)
}
