// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ExecError is returned by Exec if execve(2) has failed and the old program is as it
// was.
type ExecError struct {
	Path  string
	Errno unix.Errno
}

func (e *ExecError) Error() string { return "execve " + e.Path + ": " + e.Errno.Error() }

func (e *ExecError) Unwrap() error { return e.Errno }

// Forker returns the thread that has to call execve(2), which ends all others: the one
// that has forked the living children that alive names, because the kernel sends
// their parent-death signal when the thread that forked them ends. If there are none,
// it is the first thread, whose children all orphans are (find_new_reaper in exit.c): some
// of the container's processes may have asked for such a signal, too. The error wraps
// ErrBusy if that may change.
func (t *Tracee) Forker(alive []int) (int, error) {
	forkers := map[int]bool{}
	for _, want := range alive {
		tid, err := t.parent(want)
		if err != nil {
			return 0, err
		}
		forkers[tid] = true
	}
	delete(forkers, 0) // the child has ended, and was reaped
	if len(forkers) > 1 {
		return 0, fmt.Errorf("%w: more than one thread has living runtimes, which would end with it", ErrBusy)
	}
	for tid := range forkers {
		if !t.canExec(tid) {
			return 0, fmt.Errorf("%w: the thread with the living runtime is at work", ErrBusy)
		}
		return tid, nil
	}
	if !t.canExec(t.PID) {
		return 0, fmt.Errorf("%w: the first thread is at work", ErrBusy)
	}
	return t.PID, nil
}

// parent returns the thread that has forked the child, or 0 if none has.
func (t *Tracee) parent(child int) (int, error) {
	for tid := range t.threads {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(t.PID), "task", strconv.Itoa(tid), "children"))
		if err != nil {
			return 0, err
		}
		if slices.Contains(strings.Fields(string(b)), strconv.Itoa(child)) {
			return tid, nil
		}
	}
	return 0, nil
}

// belowUse is how many bytes of a stack below a stack pointer are left alone.
const belowUse = 16 << 10

// stackBottom returns the lowest address of the first thread's stack, and how many
// bytes there are from it to anything that is in use.
func (t *Tracee) stackBottom() (addr uintptr, room int, err error) {
	low, high, err := mapping(t.PID, "[stack]")
	if err != nil {
		return 0, 0, err
	}
	end := high
	for tid := range t.threads {
		sp, err := stackPointer(tid)
		if err != nil {
			return 0, 0, err
		}
		if sp >= low && sp < end {
			end = sp
		}
	}
	if end < low+belowUse {
		return 0, 0, errors.New("the stack has no room")
	}
	return low, int(end - low - belowUse), nil
}

// mapping returns the range of the mapping that has the name in /proc/PID/maps.
func mapping(pid int, name string) (low, high uintptr, err error) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "maps"))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // range, rights, offset, device, inode, name
		if len(fields) < 6 || fields[5] != name {
			continue
		}
		_, err := fmt.Sscanf(fields[0], "%x-%x", &low, &high)
		return low, high, err
	}
	if err := lines.Err(); err != nil {
		return 0, 0, err
	}
	return 0, 0, fmt.Errorf("process %d has no mapping %s", pid, name)
}
