// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// What a host runs short of. While such a fault lasts, an exec may fail, with an error;
// an exit may not be lost. The clock of the host is never stepped: everything else on it
// would see that, too.

// stateOptions make the state directory's file system small enough to fill it in no time.
const stateOptions = "mode=0711,size=16m,nr_inodes=2048"

// mountState gives containerd's state directory, in which the bundles are, a file system
// of its own. Close unmounts it, after the census.
func (r *Rig) mountState() error {
	if err := os.Mkdir(r.path("state"), 0o711); err != nil {
		return err
	}
	return unix.Mount("tmpfs", r.path("state"), "tmpfs", 0, stateOptions)
}

// during waits for a random time, in which a fault lasts.
func during(rng *rand.Rand) { <-time.After(between(rng, 100, 2000)) }

// fillState leaves the state file system no block.
func (c *chaos) fillState(_ context.Context, rng *rand.Rand) (bool, error) {
	fill := c.rig.path("state", "fill")
	f, err := os.OpenFile(fill, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block) // the last one in part
	}
	if !errors.Is(err, unix.ENOSPC) {
		return false, errors.Join(err, f.Close(), os.Remove(fill))
	}
	during(rng)
	return true, errors.Join(f.Close(), os.Remove(fill))
}

// useInodes leaves the state file system no inode.
func (c *chaos) useInodes(_ context.Context, rng *rand.Rand) (bool, error) {
	dir := c.rig.path("state", "inodes")
	err := os.Mkdir(dir, 0o700)
	for n := 0; err == nil; n++ {
		err = os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), nil, 0o600)
	}
	if !errors.Is(err, unix.ENOSPC) {
		return false, errors.Join(err, os.RemoveAll(dir))
	}
	during(rng)
	return true, os.RemoveAll(dir)
}

// lockState makes the state file system read-only. The kernel refuses that while a file
// is open for writing, as the log of a runtime at work is: no exec is started until it
// is done.
func (c *chaos) lockState(_ context.Context, rng *rand.Rand) (bool, error) {
	remount := func(flags uintptr) error {
		return unix.Mount("tmpfs", c.rig.path("state"), "tmpfs", unix.MS_REMOUNT|flags, stateOptions)
	}
	var err error
	c.starting.Lock()
	locked := wait.Until(time.Second, func() bool {
		err = remount(unix.MS_RDONLY)
		return err == nil || !errors.Is(err, unix.EBUSY)
	})
	c.starting.Unlock()
	if !locked || err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = nil
		}
		return false, err
	}
	during(rng)
	return true, remount(0)
}

// removeFIFO takes one of the execs' FIFOs away, as somebody who cleans up too early.
func (c *chaos) removeFIFO(_ context.Context, rng *rand.Rand) (bool, error) {
	n := rng.IntN(1 << 16)
	fifos, _ := filepath.Glob(c.rig.path("fifo", "*")) // the pattern is right
	if len(fifos) == 0 {
		return false, nil
	}
	err := os.Remove(fifos[n%len(fifos)])
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // its exec has ended meanwhile
	}
	return err == nil, err
}

// tightMemory leaves a shim, with the runtimes that it starts, next to no memory.
func (c *chaos) tightMemory(_ context.Context, rng *rand.Rand) (bool, error) {
	_, shim, err := c.some(rng)
	room := between(rng, 0, 8192) / time.Millisecond // in KiB
	if err != nil {
		return false, err
	}
	lift, err := c.rig.tighten(shim.Pid, int(room)<<10)
	if err != nil {
		return false, err
	}
	during(rng)
	return true, lift()
}

// tighten puts a process, with those that it forks from now on, into a memory cgroup
// in which room bytes are left to take. Nobody is killed: a page fault waits until the
// limit is lifted, and a call that needs the kernel's memory fails. lift ends that; it
// has been called if there is an error.
func (r *Rig) tighten(pid, room int) (lift func() error, err error) {
	before, ok := procfs.Cgroup(pid, "memory")
	if !ok {
		return nil, fmt.Errorf("process %d is in no memory cgroup of version 1", pid)
	}
	tight := filepath.Join(cgroupRoot, "memory", r.Name, "tight")
	if err := os.MkdirAll(tight, 0o755); err != nil {
		return nil, err
	}
	set := func(file, value string) error {
		return os.WriteFile(filepath.Join(tight, file), []byte(value), 0)
	}
	lift = func() error {
		return errors.Join(set("memory.limit_in_bytes", "-1"), leave(tight, filepath.Join(cgroupRoot, "memory", before)))
	}
	// What it has stays where it was taken.
	if err := errors.Join(set("memory.oom_control", "1"), set("memory.limit_in_bytes", strconv.Itoa(room)),
		set("cgroup.procs", strconv.Itoa(pid))); err != nil {
		return nil, errors.Join(err, lift())
	}
	return lift, nil
}

// leave moves every process of a cgroup to another one, and removes the first.
func leave(from, to string) error {
	return wait.For(settleLimit, from+" is removed", func() bool {
		data, _ := os.ReadFile(filepath.Join(from, "cgroup.procs")) // without it rmdir says why
		for _, pid := range strings.Fields(string(data)) {
			_ = os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(pid), 0) // it may have ended
		}
		err := syscall.Rmdir(from)
		return err == nil || errors.Is(err, os.ErrNotExist)
	})
}
