// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	api "github.com/containerd/containerd/api/events"
	events "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// eventRelay stands between the shims and containerd's ttrpc socket, and notes each
// exit that containerd has accepted. `ctr events` would miss those of the moments
// around a crash: a subscription dies with its daemon, and shims deliver to the next one
// before anybody can subscribe to it. The relay is always there, so that no event takes
// another way; without a daemon it answers with an error.
type eventRelay struct {
	front string // where shims look for it
	back  string // where containerd serves

	server *ttrpc.Server

	mu       sync.Mutex
	accepted []*api.TaskExit
}

// open serves until close.
func (e *eventRelay) open(ctx context.Context) error {
	l, err := net.Listen("unix", e.front)
	if err != nil {
		return err
	}
	if e.server, err = ttrpc.NewServer(); err != nil {
		return errors.Join(err, l.Close())
	}
	events.RegisterEventsService(e.server, e)
	go func() { _ = e.server.Serve(ctx, l) }() // ends with close
	return nil
}

func (e *eventRelay) close() { _ = e.server.Close() } // it closes what it can

// Forward passes an event on, and notes an exit if containerd has accepted it.
func (e *eventRelay) Forward(ctx context.Context, r *events.ForwardRequest) (*emptypb.Empty, error) {
	conn, err := net.Dial("unix", e.back)
	if err != nil {
		return nil, err
	}
	c := ttrpc.NewClient(conn)
	defer c.Close()
	answer, err := events.NewEventsClient(c).Forward(ctx, r)
	if err != nil {
		return nil, err
	}
	if any := r.GetEnvelope().GetEvent(); any.GetTypeUrl() == "containerd.events.TaskExit" {
		var exit api.TaskExit
		if err := proto.Unmarshal(any.GetValue(), &exit); err != nil {
			return nil, fmt.Errorf("an exit that is none: %w", err)
		}
		e.mu.Lock()
		e.accepted = append(e.accepted, &exit)
		e.mu.Unlock()
	}
	return answer, nil
}

// exits returns what was accepted so far, in order.
func (e *eventRelay) exits() []*api.TaskExit {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.accepted[:len(e.accepted):len(e.accepted)]
}
