// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Fault is one failure: the Nth call of a kind, counted from 1, and the Times-1
// calls of that kind after it fail with Errno. With Kill the program is killed at
// the Nth call instead. With For the Nth call begins a moment of that length in which
// every call of any kind fails that may fail with Errno.
type Fault struct {
	Kind  string
	N     int
	Errno unix.Errno
	Times int // 0 means once
	Kill  bool
	For   time.Duration
}

func (f Fault) String() string {
	how := "killed"
	if !f.Kill {
		how = unix.ErrnoName(f.Errno)
	}
	if f.Times > 1 {
		how += fmt.Sprintf(" x %d", f.Times)
	}
	if f.For > 0 {
		how += fmt.Sprintf(" for %v", f.For)
	}
	return fmt.Sprintf("%s %d %s", f.Kind, f.N, how)
}

// Injector stops the calls of one program. Calls and Hits may be called from
// several goroutines.
type Injector struct {
	Fault Fault // as given to New

	exe  string // the program's file
	ours *os.File
	pid  int // of the program, once it runs

	mu    sync.Mutex     // guards the following
	count map[string]int // calls of each kind
	hits  []string       // the calls that were made to fail
	begun time.Time      // when the first one was
	ended error

	stop [2]*os.File   // a pipe; closing its second end ends serve
	done chan struct{} // closed when serve has ended
}

// New returns an Injector for the program in the file exe. With the zero Fault it
// only counts.
func New(exe string, f Fault) *Injector {
	if file, err := filepath.EvalSymlinks(exe); err == nil { // as /proc/PID/exe has it; if there is no file, Start fails
		exe = file
	}
	return &Injector{Fault: f, exe: exe, count: map[string]int{}, done: make(chan struct{})}
}

// Calls returns how many calls of each kind the program has made.
func (i *Injector) Calls() map[string]int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.count)
}

// Hits returns the calls that were made to fail, in order.
func (i *Injector) Hits() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]string(nil), i.hits...)
}

// Start starts cmd under the filter, by way of helper, a program that calls Main when
// it is run as Name. It returns once the filter is served. The caller must Close.
func (i *Injector) Start(cmd *exec.Cmd, helper string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "faults"), os.NewFile(uintptr(pair[1]), "faults")
	defer ours.Close()
	defer theirs.Close()
	cmd.Args = append([]string{Name, strconv.Itoa(3 + len(cmd.ExtraFiles)), cmd.Path}, cmd.Args...)
	cmd.Path = helper
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := errors.Join(theirs.Close(), i.accept(ours)); err != nil {
		return errors.Join(fmt.Errorf("take the filter's descriptor: %w", err), cmd.Process.Kill(), cmd.Wait())
	}
	i.pid = cmd.Process.Pid
	go i.serve()
	_, err = ours.Write([]byte{0})
	return err
}

// accept receives the filter's descriptor from Main.
func (i *Injector) accept(from *os.File) error {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(from.Fd()), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return err
	}
	if len(messages) == 0 {
		return errors.New("the helper has ended: does the kernel know seccomp's user notification?")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return errors.Join(err, unix.Close(fds[0])) // Close has nothing to end
	}
	i.ours, i.stop = os.NewFile(uintptr(fds[0]), "seccomp"), [2]*os.File{r, w}
	return nil
}

// notification is struct seccomp_notif of linux/seccomp.h.
type notification struct {
	id    uint64
	pid   uint32 // of the thread
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// serve answers the kernel until Close.
func (i *Injector) serve() {
	defer close(i.done)
	fds := []unix.PollFd{{Fd: int32(i.ours.Fd()), Events: unix.POLLIN}, {Fd: int32(i.stop[0].Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			i.mu.Lock()
			i.ended = err
			i.mu.Unlock()
			return
		}
		switch {
		case fds[1].Revents != 0, fds[0].Revents&unix.POLLHUP != 0: // no process has the filter any more
			return
		case fds[0].Revents&unix.POLLIN == 0:
			continue
		}
		var n notification
		if ioctl(i.ours, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) != nil {
			continue // the thread was interrupted or killed meanwhile
		}
		r := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if errno := i.judge(&n); errno != 0 {
			r.errno, r.flags = -int32(errno), 0
		}
		_ = ioctl(i.ours, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) // likewise
	}
}

// judge counts a call, and returns the error with which it must fail; 0 lets it go
// on.
func (i *Injector) judge(n *notification) unix.Errno {
	if exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(int(n.pid)), "exe")); err != nil || exe != i.exe {
		return 0
	}
	kind := n.kind()
	if _, ok := Kinds[kind]; !ok {
		return 0
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count[kind]++
	f := i.Fault
	if !i.hit(kind) {
		return 0
	}
	if len(i.hits) == 0 {
		i.begun = time.Now()
	}
	i.hits = append(i.hits, fmt.Sprintf("%s(%s)", kind, n.describe()))
	if f.Kill {
		_ = unix.Kill(i.pid, unix.SIGKILL) // it is alive: it waits for the answer
		return 0
	}
	return f.Errno
}

// hit reports whether the call of this kind that was just counted is to be made to fail.
//
// +checklocks:i.mu
func (i *Injector) hit(kind string) bool {
	f := i.Fault
	if f.For > 0 && len(i.hits) > 0 {
		return time.Since(i.begun) < f.For && slices.Contains(Kinds[kind], f.Errno)
	}
	return kind == f.Kind && i.count[kind] >= f.N && i.count[kind] < f.N+max(1, f.Times)
}

// Close ends the service. Every process with the filter must have ended: calls that
// the filter stops afterwards fail with ENOSYS. Close returns the error by which the
// service has ended early, if it has.
func (i *Injector) Close() error {
	if i.ours == nil {
		return nil
	}
	err := i.stop[1].Close()
	<-i.done
	return errors.Join(err, i.ended, i.stop[0].Close(), i.ours.Close())
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
