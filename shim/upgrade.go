// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"path/filepath"

	"containerd-shim.v1/internal/guard"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The ttrpc method that exchanges the shim's program, on the same socket as
// containerd's own service. It takes a google.protobuf.StringValue with the path
// of the new program, and answers with one that holds the version of the program
// that then runs.
const (
	UpgradeService = "containerd.shim.inplace.v1"
	UpgradeMethod  = "Upgrade"
)

// Upgrade is a request to exchange the program.
type Upgrade struct {
	sup    *Supervisor
	binary string // an absolute path
	result chan error
}

// Do carries the request out by calling fn, whose error becomes the answer. If
// the exchange succeeds, fn does not return, and the new program answers. A panic
// of fn becomes an error.
func (u *Upgrade) Do(fn func(binary string) error) {
	u.sup.exchanging = u.binary
	defer func() { u.sup.exchanging = "" }()
	u.result <- guard.Call("exchange the program", func() error { return fn(u.binary) })
}

// Upgrades returns the channel of requests. Whoever receives one must call its Do
// before receiving the next. It is never closed.
func (s *Supervisor) Upgrades() <-chan *Upgrade { return s.upgrades }

// Upgrade has the program exchanged by whoever receives from Upgrades. In the old
// program it returns only an error; in the new one it returns nil, once, for the
// request that has led to it.
func (s *Supervisor) Upgrade(ctx context.Context, binary string) error {
	if !filepath.IsAbs(binary) {
		return fmt.Errorf("%q is not an absolute path: %w", binary, errdefs.ErrInvalidArgument)
	}
	// Another's request may come first: the order of adopted connections says nothing.
	if led := s.upgraded.Load(); led != nil && *led == binary && s.upgraded.CompareAndSwap(led, nil) {
		return nil
	}
	u := &Upgrade{sup: s, binary: binary, result: make(chan error, 1)}
	select {
	case s.upgrades <- u:
	case <-ctx.Done():
		return fmt.Errorf("wait for another upgrade: %w", ctx.Err())
	}
	select {
	case err := <-u.result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("gave up waiting, the upgrade goes on: %w", ctx.Err())
	}
}

// RegisterUpgrade adds the method to server; version is this program's.
func RegisterUpgrade(server *ttrpc.Server, s *Supervisor, version string) {
	server.RegisterService(UpgradeService, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		UpgradeMethod: func(ctx context.Context, unmarshal func(any) error) (any, error) {
			var binary wrapperspb.StringValue
			if err := unmarshal(&binary); err != nil {
				return nil, err
			}
			if err := s.Upgrade(ctx, binary.Value); err != nil {
				return nil, err
			}
			return wrapperspb.String(version), nil
		},
	}})
}

func isUpgrade(r *ttrpc.Request) bool {
	return r.Service == UpgradeService && r.Method == UpgradeMethod
}

// asksForUpgrade reports whether a frame is such a request, and for which program.
func asksForUpgrade(frame []byte) (binary string, ok bool) {
	var r ttrpc.Request
	if proto.Unmarshal(frame[headerSize:], &r) != nil || !isUpgrade(&r) {
		return "", false
	}
	var path wrapperspb.StringValue
	_ = proto.Unmarshal(r.Payload, &path) // a bad one is for no program
	return path.Value, true
}
