// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/internal/state"
)

// descriptor is a descriptor that the shim has open.
type descriptor struct {
	n     state.FD
	link  string // the target of /proc/PID/fd/N, without " (deleted)"
	flags uint64 // of open(2)
	used  bool   // it is in the state
}

// cloexec reports whether FD_CLOEXEC is set, which fdinfo shows as O_CLOEXEC.
func (d *descriptor) cloexec() bool { return d.flags&unix.O_CLOEXEC != 0 }

// handle reports whether it was opened with O_PATH; package fifo keeps two such
// descriptors for each FIFO.
func (d *descriptor) handle() bool { return d.flags&unix.O_PATH != 0 }

func (d *descriptor) reads() bool  { return !d.handle() && d.flags&unix.O_ACCMODE != unix.O_WRONLY }
func (d *descriptor) writes() bool { return !d.handle() && d.flags&unix.O_ACCMODE != unix.O_RDONLY }

// descriptors are all that a process has open, by number.
type descriptors map[state.FD]*descriptor

// readDescriptors reads what is open in a process that may run. The error wraps ErrBusy if
// a descriptor was closed meanwhile.
func readDescriptors(pid int) (descriptors, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	names, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil, err
	}
	all := descriptors{}
	for _, name := range names {
		n, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		link, err := os.Readlink(filepath.Join(dir, "fd", name.Name()))
		if err != nil {
			return nil, closed(n, err)
		}
		info, err := os.ReadFile(filepath.Join(dir, "fdinfo", name.Name()))
		if err != nil {
			return nil, closed(n, err)
		}
		d := &descriptor{n: state.FD(n), link: strings.TrimSuffix(link, " (deleted)")}
		if d.flags, err = field(string(info), "flags:", 8); err != nil {
			return nil, fmt.Errorf("descriptor %d: %w", n, err)
		}
		all[d.n] = d
	}
	return all, nil
}

// closed is the error for a descriptor that could not be read: an ErrBusy if it is not there
// any more, since the process was not stopped.
func closed(n int, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: descriptor %d was closed meanwhile", ErrBusy, n)
	}
	return err
}

// unchanged returns an error unless the process still has the same files open.
func (all descriptors) unchanged(pid int) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := strconv.Atoi(name.Name())
		if err != nil {
			return err
		}
		link, err := os.Readlink(filepath.Join(dir, name.Name()))
		if d := all[state.FD(n)]; err != nil || d == nil || d.link != strings.TrimSuffix(link, " (deleted)") {
			return fmt.Errorf("%w: descriptor %d was opened meanwhile", ErrBusy, n)
		}
	}
	if len(names) != len(all) {
		return fmt.Errorf("%w: a descriptor was closed meanwhile", ErrBusy)
	}
	return nil
}

// field returns the number after key in the text of a file of /proc.
func field(text, key string, base int) (uint64, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, key); ok {
			return strconv.ParseUint(strings.TrimSpace(value), base, 64)
		}
	}
	return 0, fmt.Errorf("no %q", key)
}

// take finds the lowest descriptor for path that fits and is not used yet, and marks it
// as used. It returns 0 if there is none.
func (all descriptors) take(path string, fits func(*descriptor) bool) state.FD {
	best := state.FD(0)
	for n, d := range all {
		if d.link == path && n > 2 && !d.used && fits(d) && (best == 0 || n < best) {
			best = n
		}
	}
	if best != 0 {
		all[best].used = true
	}
	return best
}

// use marks the descriptor n as used. It returns false if its link does not begin with
// kind, or it is used already.
func (all descriptors) use(n state.FD, kind string) bool {
	d := all[n]
	if d == nil || n < 3 || d.used || !strings.HasPrefix(d.link, kind) {
		return false
	}
	d.used = true
	return true
}

// kept returns the descriptors in s that execve(2) would close unless their flag is
// cleared.
func (all descriptors) kept(s *state.Shim) (fds []int) {
	for _, n := range s.FDs() {
		if d := all[n]; d != nil && d.cloexec() {
			fds = append(fds, int(n))
		}
	}
	return fds
}

// sockets returns the unix sockets of the process's network namespace, by their link in
// /proc/PID/fd, and whether they listen.
func sockets(pid int) (map[string]bool, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "net/unix"))
	if err != nil {
		return nil, err
	}
	listens := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // Num RefCount Protocol Flags Type St Inode Path
		if len(f) < 7 {
			continue
		}
		listens["socket:["+f[6]+"]"] = f[3] == acceptsConnections
	}
	return listens, nil
}

// acceptsConnections is __SO_ACCEPTCON in the flags of /proc/net/unix.
const acceptsConnections = "00010000"
