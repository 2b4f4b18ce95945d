// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newTestAcceptor(t *testing.T) *acceptor {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAcceptor(l.(*net.UnixListener))
	if err != nil {
		_ = l.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// TestAcceptWithoutMemory: chaos saw a connection that ended as soon as it was made,
// because the poller had no memory for it.
func TestAcceptWithoutMemory(t *testing.T) {
	a := newTestAcceptor(t)
	lacks := []error{unix.ENOMEM, unix.EFAULT, unix.EMFILE}
	a.take = func(f *os.File) (net.Conn, error) {
		if len(lacks) == 0 {
			return net.FileConn(f)
		}
		err := lacks[0]
		lacks = lacks[1:]
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	client, err := net.Dial("unix", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := a.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	b := make([]byte, 1)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := server.Read(b); err != nil || b[0] != 'x' {
		t.Errorf("read %q, %v", b, err)
	}
}

// TestAcceptorEnds: a deadline interrupts Accept, also before it is called, and Close
// ends it.
func TestAcceptorEnds(t *testing.T) {
	a := newTestAcceptor(t)
	accept := func() <-chan error {
		ended := make(chan error, 1)
		go func() { _, err := a.Accept(); ended <- err }()
		return ended
	}
	waiting := accept()
	for range 2 {
		if err := a.SetDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after a deadline: %v", err)
		}
		waiting = accept()
	}
	<-waiting
	if err := a.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	waiting = accept()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := net.Dial("unix", a.Addr().String()); err == nil {
		t.Error("the socket is still open")
	}
}

// TestAcceptorComesLater: without a descriptor to spare connections are accepted at once all
// the same, and kept as soon as there is one.
func TestAcceptorComesLater(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	wrapped := newConnections().listen(l).(*lasting)
	_, kept := wrapped.Listener.(*acceptor)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	defer wrapped.Close()
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := wrapped.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, now := wrapped.Listener.(*acceptor); kept || !now {
		t.Errorf("an acceptor: %v without a descriptor, %v with one", kept, now)
	}
}
