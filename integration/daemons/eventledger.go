// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	api "github.com/containerd/containerd/api/events"
	events "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// eventLedger notes each exit that containerd has accepted, on both ways that v1 shims
// send them. `ctr events` would miss those of the moments around a crash: a subscription
// dies with its daemon, and shims deliver to the next one before anybody can subscribe
// to it.
//
// Before containerd's ttrpc socket, which this project's shim uses, stands a relay. It
// is always there, so that no event takes another way; without a daemon it answers with
// an error. For `containerd publish`, which upstream's shims run, there is the recorder:
// it keeps what it was given if containerd has taken it.
type eventLedger struct {
	front string // where shims look for the ttrpc socket
	back  string // where containerd serves it
	dir   string // of what `containerd publish` was given

	server *ttrpc.Server

	mu       sync.Mutex
	accepted []*api.TaskExit // by ttrpc
}

// keepLedger sets a ledger up. It must be called before containerd is started.
func (r *Rig) keepLedger(ctx context.Context) (*eventLedger, error) {
	l := &eventLedger{front: r.Address() + ".ttrpc", back: r.path("relayed.ttrpc"), dir: r.path("published")}
	r.ttrpc, r.ledger = l.back, l.dir
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		return nil, err
	}
	return l, l.open(ctx)
}

// open serves until close.
func (l *eventLedger) open(ctx context.Context) error {
	listener, err := net.Listen("unix", l.front)
	if err != nil {
		return err
	}
	if l.server, err = ttrpc.NewServer(); err != nil {
		return errors.Join(err, listener.Close())
	}
	events.RegisterEventsService(l.server, l)
	go func() { _ = l.server.Serve(ctx, listener) }() // ends with close
	return nil
}

func (l *eventLedger) close() { _ = l.server.Close() } // it closes what it can

// Forward passes an event on, and notes an exit if containerd has accepted it.
func (l *eventLedger) Forward(ctx context.Context, r *events.ForwardRequest) (*emptypb.Empty, error) {
	conn, err := net.Dial("unix", l.back)
	if err != nil {
		return nil, err
	}
	c := ttrpc.NewClient(conn)
	defer c.Close()
	answer, err := events.NewEventsClient(c).Forward(ctx, r)
	if err != nil {
		return nil, err
	}
	exit, err := exitOf(r.GetEnvelope().GetEvent())
	if err != nil {
		return nil, err
	}
	if exit != nil {
		l.mu.Lock()
		l.accepted = append(l.accepted, exit)
		l.mu.Unlock()
	}
	return answer, nil
}

// exitOf returns the exit that an event is, nil if it is another event.
func exitOf(event *anypb.Any) (*api.TaskExit, error) {
	if event.GetTypeUrl() != "containerd.events.TaskExit" {
		return nil, nil
	}
	exit := &api.TaskExit{}
	if err := proto.Unmarshal(event.GetValue(), exit); err != nil {
		return nil, fmt.Errorf("an exit that is none: %w", err)
	}
	return exit, nil
}

// exits returns what was accepted so far: by ttrpc in order, then the others.
func (l *eventLedger) exits() ([]*api.TaskExit, error) {
	l.mu.Lock()
	all := append([]*api.TaskExit(nil), l.accepted...)
	l.mu.Unlock()
	files, _ := filepath.Glob(filepath.Join(l.dir, "*.accepted")) // the pattern is right
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var event anypb.Any
		if err := proto.Unmarshal(data, &event); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		exit, err := exitOf(&event)
		if err != nil {
			return nil, err
		}
		if exit != nil {
			all = append(all, exit)
		}
	}
	return all, nil
}
