// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"containerd-shim.v1/internal/state"

	"golang.org/x/sys/unix"
)

// hungry is a socket without memory: each call fails with the next of errs, until there
// are none. A Write has moved one byte before it fails.
type hungry struct {
	net.Conn
	errs  []error
	taken []byte
}

func (h *hungry) next() (err error) {
	if len(h.errs) > 0 {
		err, h.errs = &net.OpError{Err: h.errs[0]}, h.errs[1:]
	}
	return err
}

func (h *hungry) Write(b []byte) (int, error) {
	n := len(b)
	err := h.next()
	if err != nil {
		n = 1
	}
	h.taken = append(h.taken, b[:n]...)
	return n, err
}

func (h *hungry) SetWriteDeadline(time.Time) error { return nil }

func (h *hungry) Read(b []byte) (int, error) {
	if err := h.next(); err != nil {
		return 0, err
	}
	return copy(b, "x"), nil
}

// A shim in a memory cgroup that was full lost its daemon's connection when an answer
// could not be written (ENOBUFS), and a daemon takes that for its death.
func TestConnectionOutlivesMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []error{unix.ENOBUFS, unix.ENOMEM, unix.EFAULT}
		sock := &hungry{errs: all}
		c := newConn(sock, &witness{}, newConnections())
		want := frame(typeResponse, 1, []byte{statusTag, 0})
		if n, err := c.Write(want); n != len(want) || err != nil || string(sock.taken) != string(want) {
			t.Errorf("Write: %d, %v, the socket has %q, want %q", n, err, sock.taken, want)
		}
		sock.errs = all
		if n, err := c.Read(make([]byte, 8)); n != 1 || err != nil {
			t.Errorf("Read: %d, %v", n, err)
		}
	})
}

// TestRefusalsOutliveMemory: the first of the requests that were lost in an exchange, and
// with it all that follow, was never answered if its answer could not be written at once.
func TestRefusalsOutliveMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sock := &hungry{errs: []error{unix.ENOBUFS, unix.ENOMEM}}
		c := newConn(sock, &witness{}, newConnections())
		c.resume(&state.Connection{Errors: []state.Error{{Stream: 1, Text: "lost"}, {Stream: 3, Text: "lost"}}})
		for _, stream := range []byte{1, 3} {
			if !bytes.Contains(sock.taken, []byte{0, 0, 0, stream, typeResponse, 0}) {
				t.Errorf("request %d was not answered: %q", stream, sock.taken)
			}
		}
	})
}

func TestConnectionEnds(t *testing.T) {
	for _, end := range []error{io.EOF, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET} {
		c := newConn(&hungry{errs: []error{end, end}}, &witness{}, newConnections())
		if _, err := c.Write(frame(typeResponse, 1, nil)); !errors.Is(err, end) {
			t.Errorf("Write: %v, want %v", err, end)
		}
		if _, err := c.Read(make([]byte, 8)); !errors.Is(err, end) {
			t.Errorf("Read: %v, want %v", err, end)
		}
	}
}
