// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sandboxService is a shim's, which knows no sandbox before it is made.
type sandboxService struct {
	sandboxapi.TTRPCSandboxService
	refuse           error
	created, started bool
}

func (s *sandboxService) CreateSandbox(context.Context, *sandboxapi.CreateSandboxRequest) (*sandboxapi.CreateSandboxResponse, error) {
	s.created = true
	return &sandboxapi.CreateSandboxResponse{}, s.refuse
}

func (s *sandboxService) StartSandbox(context.Context, *sandboxapi.StartSandboxRequest) (*sandboxapi.StartSandboxResponse, error) {
	if !s.created {
		return nil, status.Error(codes.FailedPrecondition, "no sandbox")
	}
	s.started = true
	return &sandboxapi.StartSandboxResponse{}, nil
}

func (s *sandboxService) PingSandbox(context.Context, *sandboxapi.PingRequest) (*sandboxapi.PingResponse, error) {
	if !s.started {
		return nil, status.Error(codes.NotFound, "no sandbox")
	}
	return &sandboxapi.PingResponse{}, nil
}

// serve is a connection to a shim that has the service, if it is not nil.
func serve(t *testing.T, service *sandboxService) sandboxapi.TTRPCSandboxService {
	t.Helper()
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	if service != nil {
		sandboxapi.RegisterTTRPCSandboxService(server, service)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(context.Background(), l) }()
	t.Cleanup(func() { _ = server.Close() })
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	t.Cleanup(func() { _ = client.Close() })
	return sandboxapi.NewTTRPCSandboxClient(client)
}

func TestSandboxIsMadeBeforeItIsAskedAbout(t *testing.T) {
	if err := sandboxUp(serve(t, &sandboxService{}), "/bundle"); err != nil {
		t.Error(err)
	}
}

func TestNoSandboxService(t *testing.T) {
	for name, tt := range map[string]struct {
		service *sandboxService
		absent  bool
	}{
		"no service":              {nil, true},
		"no service, old ttrpc":   {&sandboxService{refuse: status.Error(codes.NotFound, "service containerd.runtime.sandbox.v1.Sandbox")}, true},
		"not implemented":         {&sandboxService{refuse: status.Error(codes.Unimplemented, "")}, true},
		"no such sandbox":         {&sandboxService{refuse: status.Error(codes.NotFound, "sandbox pod: not found")}, false},
		"another error":           {&sandboxService{refuse: errors.New("service broken")}, false},
		"all is as it has to be":  {&sandboxService{}, false},
		"not ready for a sandbox": {&sandboxService{refuse: status.Error(codes.FailedPrecondition, "service")}, false},
	} {
		if err := sandboxUp(serve(t, tt.service), "/bundle"); noService(err) != tt.absent {
			t.Errorf("%s: absent is %v: %v", name, !tt.absent, err)
		}
	}
}

func TestStopSandboxThatStopsNothing(t *testing.T) {
	refused := errors.New("refused")
	for _, tt := range []struct {
		err       error
		shimLives bool
		fails     bool
	}{{nil, true, true}, {nil, false, true}, {refused, false, true}, {refused, true, false}} {
		if what := notStopped(tt.err, tt.shimLives); (what != "") != tt.fails {
			t.Errorf("%v, shim lives: %v: %q", tt.err, tt.shimLives, what)
		}
	}
}
