// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// The daemons that used abstract names for shims were built with a Go that counted a NUL
// at the end into the name: Docker 18.06 and containerd up to 1.3.8 on real hosts. Built
// with today's Go they do not.
func TestDialFindsAbstractNamesWithAndWithoutFinalNUL(t *testing.T) {
	blind := blindProc(t)
	unique := fmt.Sprint("dial", os.Getpid())
	for _, c := range []struct{ how, root, name, final string }{
		{"by its namespace and id", blind, "/containerd-shim/" + unique + "/c1/shim.sock", ""},
		{"by its namespace and id", blind, "/containerd-shim/" + unique + "/c1/shim.sock", "\x00"},
		{"among its descriptors", "/proc", "/somewhere/" + unique, ""},
		{"among its descriptors", "/proc", "/somewhere/" + unique, "\x00"},
	} {
		t.Run(fmt.Sprintf("%s%q", c.how, c.final), func(t *testing.T) {
			l, err := net.Listen("unix", "@"+c.name+c.final)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			conn, err := dial(c.root, &scan.Shim{PID: os.Getpid(), Namespace: unique, ID: "c1"}, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.RemoteAddr().String(); strings.TrimRight(got, "\x00@") != "@"+c.name {
				t.Errorf("connected to %q", got)
			}
			conn.Close()
		})
	}
}

// blindProc is a /proc in which this process has no descriptors, so that only the known name
// leads to its socket.
func blindProc(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, strconv.Itoa(os.Getpid()), "cwd"), 0o700); err != nil {
		t.Fatal(err)
	}
	return root
}

// A user who listens on the name without the NUL is found first, and must not answer, or get
// a request, in the shim's place.
func TestDialPassesOverAnotherUsersSocket(t *testing.T) {
	s := &scan.Shim{PID: os.Getpid(), Namespace: fmt.Sprint("dial", os.Getpid()), ID: "c2"}
	name := "@/containerd-shim/" + s.Namespace + "/c2/shim.sock"
	his, err := listenAs(65534, name)
	if err != nil {
		t.Fatal(err)
	}
	defer his.Close()
	root := blindProc(t)
	if conn, err := dial(root, s, time.Second); !errors.Is(err, ErrConnect) || !strings.Contains(err.Error(), "user 65534") {
		t.Errorf("got %v, %v", conn, err)
	}
	own, err := net.Listen("unix", name+"\x00")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	conn, err := dial(root, s, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := own.(*net.UnixListener).SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	accepted, err := own.Accept()
	if err != nil {
		t.Fatalf("connected to another: %v", err)
	}
	defer accepted.Close()
	s.UID = 65534 // a shim of his own is asked
	conn, err = dial(root, s, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// listenAs listens as another user. The kernel keeps a user for each thread; this one ends with
// the goroutine.
func listenAs(uid int, name string) (l net.Listener, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
			err = e
			return
		}
		l, err = net.Listen("unix", name)
	}()
	<-done
	return l, err
}
