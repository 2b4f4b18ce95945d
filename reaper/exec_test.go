// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"

	"golang.org/x/sys/unix"
)

// TestPausedReaperLeavesZombies: a child that dies while reaping is paused keeps
// its status for whoever claims it before Resume.
func TestPausedReaperLeavesZombies(t *testing.T) {
	ticket := testReaper.Begin()
	defer ticket.Close()
	testReaper.Pause()
	paused := true
	defer func() {
		if paused {
			testReaper.Resume()
		}
	}()
	seq := testReaper.Seq()
	pid, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "exit 7"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo // returns when it is dead
	if err := unix.Waitid(unix.P_PID, pid.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	child, err := ticket.Claim(pid.Pid, time.Time{}, "owner")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-child.Done():
		t.Fatal("reaped while paused")
	default:
	}
	sub := testReaper.Subscribe()
	defer sub.Close()
	testReaper.Resume()
	paused = false
	if e := child.Wait(); e.Status != 7 || e.Owner != "owner" || e.Seq <= seq {
		t.Errorf("got %+v, after number %d", e, seq)
	}
	if e, err := sub.Next(t.Context()); err != nil || e.Pid != pid.Pid {
		t.Errorf("told %+v, %v", e, err)
	}
	_ = pid.Release() // the Reaper has waited
}

func TestDeadChild(t *testing.T) {
	c := NewDead(Exit{Pid: 1 << 22, Status: 3})
	if e := c.Wait(); e.Status != 3 || !errors.Is(c.Signal(unix.SIGKILL), os.ErrProcessDone) {
		t.Errorf("got %+v", e)
	}
}

// TestExecThatFails changes nothing: the descriptors are closed on exec again, the
// forking thread has its mask, and children of it start as before.
func TestExecThatFails(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	busy := write("busy", "#!/bin/sh\n", 0o700)
	f, err := os.OpenFile(busy, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fd := int(w.Fd())
	kept, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd))
	if err != nil {
		t.Fatal(err)
	}
	long := []string{"x", strings.Repeat("y", 1<<20)} // one argument may have 128 KiB (execve(2))
	for _, c := range []struct {
		path string
		args []string
		keep []int
		want error
	}{
		{filepath.Join(dir, "none"), []string{"x"}, []int{fd}, unix.ENOENT},
		{write("mode", "#!/bin/sh\n", 0o600), []string{"x"}, []int{fd}, unix.EACCES},
		{dir, []string{"x"}, []int{fd}, unix.EACCES},
		{write("junk", "junk", 0o700), []string{"x"}, []int{fd}, unix.ENOEXEC},
		{busy, []string{"x"}, []int{fd}, unix.ETXTBSY},
		{"/bin/true", long, []int{fd}, unix.E2BIG},
		{"/bin/true", []string{"x"}, []int{fd, 1 << 20}, unix.EBADF},
	} {
		err := testReaper.Exec(t.Context(), c.path, c.args, nil, c.keep, nil)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.path, err, c.want)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != unix.FD_CLOEXEC {
			t.Errorf("%s: flags %d, %v", c.path, flags, err)
		}
		out, status, err := NewMonitor(testReaper, DefaultLimits()).Run(t.Context(), Command{
			Args: []string{"/bin/sh", "-c", "grep SigBlk /proc/self/status; ls -l /proc/self/fd"},
		})
		if err != nil || status != 0 || !strings.Contains(string(out), "SigBlk:\t0000000000000000\n") || strings.Contains(string(out), kept) {
			t.Errorf("%s: a child after it has\n%s, status %d, %v", c.path, out, status, err)
		}
	}
}

// TestExecLeavesTheLimitOfFiles: one that has failed has changed it neither for the
// program, which has raised its own, nor for children.
func TestExecLeavesTheLimitOfFiles(t *testing.T) {
	text, err := exec.Command("/bin/sh", "-c", `ulimit -Sn 99 && exec "$0" limits`, childBinary).Output()
	if want := "own raised, a child's 99\n"; err != nil || string(text) != want+want {
		t.Errorf("before and after: %q, %v", text, err)
	}
}

// TestExecHoldsSignals: one that comes while the kernel is opening the new program
// (which waits for a lease to be given up) is taken by a thread of the old one, and
// yet not lost.
func TestExecHoldsSignals(t *testing.T) {
	good, err := os.ReadFile(childBinary)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		data []byte
		want int
	}{"it succeeds": {good, 7}, "it fails": {[]byte("junk"), 8}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "program")
			if err := os.WriteFile(path, try.data, 0o700); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			opened := make(chan os.Signal, 1)
			signal.Notify(opened, unix.SIGIO)
			defer signal.Stop(opened)
			if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
				t.Fatal(err)
			}
			cmd := roleCmd("exchange", path)
			cmd.Env = append(os.Environ(), "GOMAXPROCS=2") // execve(2) holds one
			child := startClaimed(t, cmd)
			<-opened
			if err := child.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if !wait.Until(10*time.Second, func() bool { return isHeld(child.Pid()) }) {
				t.Error("the signal is not held")
			}
			if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
				t.Fatal(err)
			}
			if got := waitExit(t, child).Status; got != try.want {
				t.Errorf("status %d, want %d", got, try.want)
			}
		})
	}
}

// isHeld reports whether a process holds a signal for its next program.
func isHeld(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	return slices.ContainsFunc(threads, func(status string) bool { return pending(status, heldSignal) })
}
