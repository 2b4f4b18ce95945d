// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/internal/state"
)

// childMode is the variable that turns this program into a child that waits for the end
// of its input.
const childMode = "UPSTREAM_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		waits(mode)
		return
	}
	os.Exit(m.Run())
}

func waits(mode string) {
	if mode == "nameless" { // its arguments cannot be read
		stat, err := os.ReadFile("/proc/self/stat")
		if err != nil {
			panic(err)
		}
		_, fields, _ := strings.Cut(string(stat), ") ")
		var start uintptr
		if _, err := fmt.Sscan(strings.Fields(fields)[45], &start); err != nil { // field 48, arg_start
			panic(err)
		}
		page := uintptr(os.Getpagesize())
		if _, _, e := unix.RawSyscall(unix.SYS_MPROTECT, start&^(page-1), page, unix.PROT_NONE); e != 0 {
			panic(e)
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // an error ends this as well
}

// child starts such a child with these arguments and returns its pid.
func child(t *testing.T, mode string, args ...string) int {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: self, Args: args, Env: append(os.Environ(), childMode+"="+mode), Stderr: os.Stderr}
	for i := range 2000 { // so that the arguments are on other pages than the stack that is in use
		cmd.Env = append(cmd.Env, fmt.Sprint("X", i, "="))
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// TestChildren: a process of the container is not taken for a runtime, whatever its
// arguments are, and only a process that has ended is taken for a zombie.
func TestChildren(t *testing.T) {
	runtimes := []string{"runc", "--root", "/run/runc", "--log", "/x/log.json", "exec", "--pid-file", "/x/e1.pid", "c"}
	ofContainer := child(t, "plain", runtimes...)
	script := child(t, "plain", "/bin/sh", "/x/script", "--root", "/", "--log", "/x/log.json", "exec", "c")
	nameless := child(t, "nameless", "sh")
	ended := exec.Command("/bin/true")
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, ended.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ended.Wait() }() // /bin/true does not fail
	r := &reader{pid: os.Getpid(), objects: map[string]*object{"e1": {}}}
	if err := r.family(); err != nil {
		t.Fatal(err)
	}
	if !r.living[ofContainer] || !r.living[script] || !r.living[nameless] || len(r.zombies) != 1 || !r.zombies[ended.Process.Pid] {
		t.Errorf("living %v, zombies %v", r.living, r.zombies)
	}
	if len(r.runtimes) != 2 || !slices.ContainsFunc(r.runtimes, func(c *runtime) bool { return c.pid == script }) {
		t.Fatalf("got %+v", r.runtimes)
	}
	if err := r.atRest(); !errors.Is(err, ErrBusy) {
		t.Errorf("a runtime at work: %v", err)
	}
	r.objects["e1"].Pid, r.objects["e2"] = ofContainer, &object{Process: state.Process{Pid: script}}
	if err := r.atRest(); err != nil || len(r.runtimes) != 0 {
		t.Errorf("a process of the container: %v, %+v", err, r.runtimes)
	}
}

// TestArgumentsOfTheContainerAreNotRead: to read them may never end. Here they are a FIFO, in the
// only thread that looks.
func TestArgumentsOfTheContainerAreNotRead(t *testing.T) {
	container := &exec.Cmd{Path: "/bin/sleep", Args: []string{"sleep", "100000"}, SysProcAttr: &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}}
	if err := container.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = container.Process.Kill()
		_ = container.Wait() // killed
	})
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &reader{pid: os.Getpid()}
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // the thread ends with the goroutine, and its mounts with it
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			done <- err
			return
		}
		done <- errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount(fifo, fmt.Sprintf("/proc/%d/cmdline", container.Process.Pid), "", unix.MS_BIND, ""), r.family())
	}()
	select {
	case err := <-done:
		if err != nil || !r.living[container.Process.Pid] {
			t.Errorf("got %v, living %v", err, r.living)
		}
	case <-time.After(10 * time.Second):
		t.Error("it reads them")
		if f, err := os.OpenFile(fifo, os.O_RDWR, 0); err != nil { // lets it go on
			t.Error(err)
		} else {
			f.Close()
		}
		<-done
	}
}
