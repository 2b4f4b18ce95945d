// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"

	"containerd-shim.v1/integration/harness/wait"
)

// Caller sends one request of V1's service, in the shim's dialect, and waits for its
// answer.
type Caller interface {
	Call(ctx context.Context, method string, req, resp proto.Message) error
	Close() error
}

// dial connects, as a daemon does right after the fork: the listener is bound
// already unless the shim makes it itself.
func dial(address string) (net.Conn, error) {
	const patience = 5 * time.Second
	var conn net.Conn
	var err error
	if wait.For(patience, "connection", func() bool {
		conn, err = net.Dial("unix", address)
		return err == nil
	}) != nil {
		return nil, fmt.Errorf("connect to the shim: %w", err)
	}
	return conn, nil
}

// modern is the client of today's daemons.
type modern struct {
	client  *ttrpc.Client
	dialect Dialect
}

// DialModern connects with the current containerd/ttrpc client.
func DialModern(address string, d Dialect) (Caller, error) {
	conn, err := dial(address)
	if err != nil {
		return nil, err
	}
	return modern{ttrpc.NewClient(conn), d}, nil
}

func (m modern) Call(ctx context.Context, method string, req, resp proto.Message) error {
	c := m.dialect.say(method, req, resp)
	return c.decoded(m.client.Call(ctx, c.service, c.method, c.req, c.resp))
}

func (m modern) Close() error { return m.client.Close() }
