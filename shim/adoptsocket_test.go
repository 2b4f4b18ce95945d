// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc"
	"containerd-shim.v1/reaper"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// TestAdoptSocketWithoutMemory: it is tried until it succeeds, until it fails for good,
// or until the time is over.
func TestAdoptSocketWithoutMemory(t *testing.T) {
	lack := &net.OpError{Err: os.NewSyscallError("epoll_ctl", unix.ENOMEM)}
	final := &net.OpError{Err: os.NewSyscallError("getsockopt", unix.ENOTSOCK)}
	for name, c := range map[string]struct {
		errs []error
		want error
	}{
		"succeeds": {[]error{lack, lack, nil}, nil},
		"fails":    {[]error{lack, final}, final},
		"for ever": {[]error{lack}, lack},
	} {
		t.Run(name, func(t *testing.T) {
			fd, err := unix.Dup(0)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), AdoptTime)
				defer cancel()
				start, errs := time.Now(), c.errs
				got, err := AdoptSocket(ctx, state.FD(fd), func(f *os.File) (bool, error) {
					if int(f.Fd()) != fd {
						t.Errorf("descriptor %d, want %d", f.Fd(), fd)
					}
					err := errs[0]
					if len(errs) > 1 {
						errs = errs[1:]
					}
					return err == nil, err
				})
				if !errors.Is(err, c.want) || got != (c.want == nil) {
					t.Errorf("%v, %v, want %v", got, err, c.want)
				}
				if took := time.Since(start); took > AdoptTime || name != "for ever" && took > time.Second {
					t.Errorf("took %v", took)
				}
			})
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
				t.Errorf("the descriptor is left open: %v", err)
			}
		})
	}
}

// TestAdoptConnectionWithoutDescriptors: a Wait that was not answered is answered, although
// there was no descriptor to spare when its connection was to be adopted.
func TestAdoptConnectionWithoutDescriptors(t *testing.T) {
	wait := frame(typeRequest, 1, marshal(t, &ttrpc.Request{
		Service: "containerd.runtime.linux.shim.v1.Shim", Method: "Wait",
		Payload: marshal(t, &api.WaitRequest{ID: containerID}),
	}))
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := os.NewFile(uintptr(fds[1]), "client")
	defer client.Close()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sup := NewSupervisor(ctx, &proc.Env{
		Bundle: t.TempDir(), Reaper: testReaper, Monitor: reaper.NewMonitor(testReaper, reaper.DefaultLimits()),
		NewRuntime: func(string) proc.Runtime { return newFakeRuntime(t) },
	}, NewOutbox(&daemon{}), testLimits)
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(Handshaker(sup)), ttrpc.WithUnaryServerInterceptor(Interceptor))
	if err != nil {
		t.Fatal(err)
	}
	api.RegisterShimService(server, NewService(sup))

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	tried := make(chan struct{}, 1)
	logrus.SetOutput(logged{"a socket could not be adopted at once", tried})
	defer logrus.SetOutput(io.Discard) // as TestMain has it
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	adopted := make(chan struct{})
	go func() {
		defer close(adopted)
		sup.Adopt(ctx, &state.Shim{
			Container: &state.Container{Process: state.Process{
				ID: containerID, Phase: state.Stopped, Pid: 2, Exit: &state.Exit{Status: 7, At: time.Now()},
			}},
			Told: true, Connections: []state.Connection{{FD: state.FD(fds[0]), Requests: [][]byte{wait}}},
		})
	}()
	select {
	case <-tried:
	case <-adopted:
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	receive(t, "adopt", adopted)
	served := calling(func() error { return server.Serve(ctx, sup.Listener(l)) })

	header := make([]byte, headerSize)
	_ = client.SetReadDeadline(time.Now().Add(soon)) // fails only if closed
	if _, err := io.ReadFull(client, header); err != nil {
		t.Fatalf("no answer: %v", err)
	}
	payload := make([]byte, binary.BigEndian.Uint32(header))
	if _, err := io.ReadFull(client, payload); err != nil {
		t.Fatal(err)
	}
	var answer ttrpc.Response
	var exit api.WaitResponse
	if err := errors.Join(proto.Unmarshal(payload, &answer), proto.Unmarshal(answer.Payload, &exit)); err != nil || exit.ExitStatus != 7 {
		t.Errorf("answer %v, %v", &answer, err)
	}
	_ = server.Close() // ends Serve
	receive(t, "end of the server", served)
}

// logged sends a value when text is logged.
type logged struct {
	text string
	seen chan<- struct{}
}

func (l logged) Write(p []byte) (int, error) {
	if strings.Contains(string(p), l.text) {
		select {
		case l.seen <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}
