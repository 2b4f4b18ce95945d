// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"testing"

	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestTwoUpgrades: of two clients that ask for different programs, only the one whose
// program is executed is answered by it; the other can ask again.
func TestTwoUpgrades(t *testing.T) {
	s := NewSupervisor(t.Context(), &proc.Env{Reaper: testReaper}, NewOutbox(&daemon{}), testLimits)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asks := map[string][]byte{}
	for i, path := range []string{"/first", "/second"} {
		asks[path] = frame(typeRequest, uint32(1+2*i), marshal(t, &ttrpc.Request{
			Service: UpgradeService, Method: UpgradeMethod, Payload: marshal(t, wrapperspb.String(path)),
		}))
		client, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		one := newConn(c, s.exits, s.conns)
		s.conns.add(one)
		one.see(asks[path])
	}
	saved := func() (requests [][]byte, refused []state.Error) {
		st, err := s.Save()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range st.Connections {
			requests, refused = append(requests, c.Requests...), append(refused, c.Errors...)
		}
		return requests, refused
	}
	ended := calling(func() error { return s.Upgrade(t.Context(), "/first") })
	receive(t, "request", s.Upgrades()).Do(func(binary string) error {
		requests, refused := saved()
		if len(requests) != 1 || !bytes.Equal(requests[0], asks[binary]) {
			t.Errorf("handed over: %q", requests)
		}
		if len(refused) != 1 || refused[0].Stream != 3 || refused[0].Code != int(codes.Unavailable) {
			t.Errorf("refused: %+v, want the request on stream 3", refused)
		}
		return nil
	})
	if err := receive(t, "answer", ended); err != nil {
		t.Error(err)
	}
	if requests, refused := saved(); len(requests) != 0 || len(refused) != 2 { // as by -recycle
		t.Errorf("handed over although nobody's program is executed: %q; refused: %+v", requests, refused)
	}
}

// TestUpgradeThatArrivesFirst: right after an exchange, a request for another program does
// not get the answer of the one that has led to it.
func TestUpgradeThatArrivesFirst(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fds[1]) }()
	s := NewSupervisor(t.Context(), &proc.Env{Reaper: testReaper}, NewOutbox(&daemon{}), testLimits)
	s.Adopt(t.Context(), &state.Shim{Connections: []state.Connection{{FD: state.FD(fds[0]), Requests: [][]byte{
		frame(typeRequest, 1, marshal(t, &ttrpc.Request{
			Service: UpgradeService, Method: UpgradeMethod, Payload: marshal(t, wrapperspb.String("/first")),
		})),
	}}}})
	defer s.conns.next().Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody carries an exchange out
	for i, try := range []struct {
		path     string
		answered bool
	}{{"/second", false}, {"", false}, {"/first", true}, {"/first", false}} {
		if err := s.Upgrade(ctx, try.path); (err == nil) != try.answered {
			t.Errorf("%d: Upgrade to %q: %v", i, try.path, err)
		}
	}
}
