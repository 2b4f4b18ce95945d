// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/containerd/api/services/events/v1"
	ttrpcevents "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// taker counts what it takes and answers with err.
type taker struct {
	events.UnimplementedEventsServer
	n   atomic.Int32
	err error
}

func (s *taker) take(ns, topic, url string) (*emptypb.Empty, error) {
	s.n.Add(1)
	if ns != "ns" || topic != "/tasks/exit" || url != "containerd.events.TaskExit" {
		return nil, status.Errorf(codes.InvalidArgument, "%s %s %s", ns, topic, url)
	}
	return &emptypb.Empty{}, s.err
}

func (s *taker) Forward(_ context.Context, r *events.ForwardRequest) (*emptypb.Empty, error) {
	return s.take(r.Envelope.Namespace, r.Envelope.Topic, r.Envelope.Event.TypeUrl)
}

type ttrpcTaker struct{ *taker }

func (s ttrpcTaker) Forward(_ context.Context, r *ttrpcevents.ForwardRequest) (*emptypb.Empty, error) {
	return s.take(r.Envelope.Namespace, r.Envelope.Topic, r.Envelope.Event.TypeUrl)
}

// serveGRPC serves s, or no service at all, at path.
func serveGRPC(t *testing.T, path string, s events.EventsServer) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	if s != nil {
		events.RegisterEventsServer(server, s)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }() // its error is that of Stop
	t.Cleanup(func() { server.Stop(); <-ended })
}

func serveTTRPC(t *testing.T, path string, s *taker) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	if s != nil {
		ttrpcevents.RegisterEventsService(server, ttrpcTaker{s})
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(t.Context(), l) }() // its error is that of Close
	t.Cleanup(func() { _ = server.Close(); <-ended })
}

// TestWays checks which way an event takes, and that no process is started while a
// socket answers.
func TestWays(t *testing.T) {
	refusal := status.Error(codes.Unavailable, "not now")
	type server struct {
		there, service bool
		err            error
	}
	for _, c := range []struct {
		name          string
		ttrpc, grpc   server
		nttrpc, ngrpc int32
		binary        bool
		fails         bool
	}{
		{"ttrpc first", server{true, true, nil}, server{true, true, nil}, 1, 0, false, false},
		{"grpc without ttrpc, as up to 1.2", server{}, server{true, true, nil}, 0, 1, false, false},
		{"ttrpc without the method", server{true, false, nil}, server{true, true, nil}, 0, 1, false, false},
		{"grpc without the method", server{}, server{true, false, nil}, 0, 0, true, false},
		{"no daemon", server{}, server{}, 0, 0, true, false},
		{"ttrpc refuses", server{true, true, refusal}, server{true, true, nil}, 1, 0, false, true},
		{"grpc refuses", server{}, server{true, true, refusal}, 0, 1, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			address := filepath.Join(dir, "d.sock")
			tt, gt := &taker{err: c.ttrpc.err}, &taker{err: c.grpc.err}
			if c.ttrpc.there {
				s := tt
				if !c.ttrpc.service {
					s = nil
				}
				serveTTRPC(t, address+".ttrpc", s)
			}
			if c.grpc.there {
				var s events.EventsServer
				if c.grpc.service {
					s = gt
				}
				serveGRPC(t, address, s)
			}
			script(t, filepath.Join(dir, "containerd"), "exit 0")
			err := publish(t, Config{Address: address, Binary: filepath.Join(dir, "containerd")})
			if (err != nil) != c.fails {
				t.Errorf("Publish: %v", err)
			}
			if tt.n.Load() != c.nttrpc || gt.n.Load() != c.ngrpc {
				t.Errorf("ttrpc took %d, grpc %d; want %d, %d", tt.n.Load(), gt.n.Load(), c.nttrpc, c.ngrpc)
			}
			if got := len(ran(t, dir)) > 0; got != c.binary {
				t.Errorf("a process was started: %v", ran(t, dir))
			}
		})
	}
}

// TestTTRPCThatHangsUp: a ttrpc socket that lets nobody in (its own check of
// the peer closes the connection) does not keep events from the gRPC socket.
func TestTTRPCThatHangsUp(t *testing.T) {
	address := filepath.Join(t.TempDir(), "d.sock")
	listen(t, address+".ttrpc", func(net.Conn) {})
	s := &taker{}
	serveGRPC(t, address, s)
	if err := publish(t, Config{Address: address}); err != nil || s.n.Load() != 1 {
		t.Errorf("Publish: %v; grpc took %d", err, s.n.Load())
	}
}

// TestDaemonThatStalls is F7: a daemon that accepts and says nothing is given the
// event a second time, and then for long not again; no process is started for it.
func TestDaemonThatStalls(t *testing.T) {
	dir := t.TempDir()
	address := filepath.Join(dir, "d.sock")
	accepted := make(chan struct{}, 10)
	listen(t, address, func(c net.Conn) {
		accepted <- struct{}{}
		_, _ = io.Copy(io.Discard, c) // until the shim gives up
	})
	script(t, filepath.Join(dir, "containerd"), "exit 0")
	p := New(Config{Address: address, Binary: filepath.Join(dir, "containerd"), Monitor: monitor})
	p.first = lookAgain
	e := event()
	if err := p.Publish(t.Context(), e); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrAway) {
		t.Errorf("first attempt: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*p.first)
	defer cancel()
	if err := p.Publish(ctx, e); err == nil || ctx.Err() == nil {
		t.Errorf("second attempt: %v, context: %v", err, ctx.Err())
	}
	if n := len(accepted); n != 2 {
		t.Errorf("asked %d times", n)
	}
	if lines := ran(t, dir); lines != nil {
		t.Errorf("a process was started for a daemon that is there: %q", lines)
	}
}

// TestDaemonThatStallsIsReplaced: a daemon that stalls is abandoned for the one
// whose socket has taken the place of its own.
func TestDaemonThatStallsIsReplaced(t *testing.T) {
	address := filepath.Join(t.TempDir(), "d.sock")
	accepted := make(chan struct{}, 1)
	listen(t, address, func(c net.Conn) {
		accepted <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
	})
	p := New(Config{Address: address, Monitor: monitor})
	result := make(chan error, 1)
	go func() { result <- p.Publish(t.Context(), event()) }()
	<-accepted
	if err := os.Remove(address); err != nil {
		t.Fatal(err)
	}
	s := &taker{}
	serveGRPC(t, address, s)
	if err := <-result; err == nil || errors.Is(err, ErrAway) {
		t.Errorf("Publish: %v", err)
	}
	if err := p.Publish(t.Context(), event()); err != nil || s.n.Load() != 1 {
		t.Errorf("with the new daemon: %v, taken %d", err, s.n.Load())
	}
}

// TestDaemonThatDies: no process is started for a daemon that closes the
// connection without an answer.
func TestDaemonThatDies(t *testing.T) {
	dir := t.TempDir()
	address := filepath.Join(dir, "d.sock")
	for _, path := range []string{address + ".ttrpc", address} {
		listen(t, path, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	}
	script(t, filepath.Join(dir, "containerd"), "exit 0")
	if err := publish(t, Config{Address: address, Binary: filepath.Join(dir, "containerd")}); err == nil {
		t.Error("taken by nobody")
	}
	if lines := ran(t, dir); lines != nil {
		t.Errorf("a process was started: %q", lines)
	}
}

// TestNoDaemonBehindTheFile: where the path is no stream socket, no daemon is
// there, and the binary is not run either.
func TestNoDaemonBehindTheFile(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"file":      func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"datagram": func(p string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			return errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: p}), unix.Close(fd))
		},
		"open datagram": func(p string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = unix.Close(fd) })
			return unix.Bind(fd, &unix.SockaddrUnix{Name: p})
		},
	} {
		dir := t.TempDir()
		address := filepath.Join(dir, "d.sock")
		if err := make(address); err != nil {
			t.Fatal(err)
		}
		script(t, filepath.Join(dir, "containerd"), "exit 0")
		if err := publish(t, Config{Address: address, Binary: filepath.Join(dir, "containerd")}); !errors.Is(err, ErrAway) || ran(t, dir) != nil {
			t.Errorf("%s: %v, ran %q", name, err, ran(t, dir))
		}
	}
}

// TestRenamedSocket is contract §6.5: Docker 18.09's daemon has another name.
func TestRenamedSocket(t *testing.T) {
	state := t.TempDir()
	bundle := filepath.Join(state, "daemon", "io.containerd.runtime.v1.linux", "moby", "c1")
	for _, place := range []string{"containerd.sock", "daemon/containerd.sock", "docker-containerd.sock"} {
		s := &taker{}
		path := filepath.Join(state, place)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Run(place, func(t *testing.T) {
			serveGRPC(t, path, s)
			if err := publish(t, Config{Address: state + "/gone/docker-containerd.sock", Bundle: bundle}); err != nil || s.n.Load() != 1 {
				t.Errorf("Publish: %v; taken %d", err, s.n.Load())
			}
		})
	}
}

// TestOtherDaemonsAreLeftAlone: only the directories of this daemon are tried.
func TestOtherDaemonsAreLeftAlone(t *testing.T) {
	p := New(Config{Address: "/run/a/containerd.sock", Bundle: "/run/a/io.containerd.runtime.v1.linux/ns/id"})
	for _, a := range p.addresses() {
		if !strings.HasPrefix(a, "/run/a/") && filepath.Dir(a) != "/run" {
			t.Errorf("tries %s", a)
		}
	}
}
