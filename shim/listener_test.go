// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"testing/synctest"

	"containerd-shim.v1/internal/state"
)

// failing is a listener whose Accept returns these errors, one after the other.
type failing struct {
	net.Listener
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	err := f.errs[0]
	f.errs = f.errs[1:]
	if err == nil {
		c, _ := net.Pipe()
		return c, nil
	}
	return nil, err
}

func TestListenerOutlivesErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newConnections().listen(&failing{errs: []error{syscall.ENOMEM, syscall.ENOBUFS, nil, net.ErrClosed}})
		if c, err := l.Accept(); c == nil || err != nil {
			t.Errorf("after ENOMEM and ENOBUFS: got %v, %v, want a connection", c, err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: got %v, want %v", err, net.ErrClosed)
		}
	})
}

// TestConnectionsThatAreNotAccepted: a state without them would close them.
func TestConnectionsThatAreNotAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newConnections()
		for range 2 {
			c, _ := net.Pipe()
			all.adopt(c, &state.Connection{}, 1)
		}
		l := all.listen(&failing{errs: []error{net.ErrClosed}})
		for n := 2; n > 0; n-- {
			if _, _, err := all.save(""); err == nil {
				t.Errorf("saved with %d connections that are not accepted", n)
			}
			if _, err := l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := all.save(""); err != nil {
			t.Errorf("with all accepted: %v", err)
		}
	})
}
