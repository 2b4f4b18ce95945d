// SPDX-License-Identifier: Apache-2.0

// Package daemon asks a containerd whether it answers and what it knows of a
// task. A repair needs both: with the daemon down, killing a shim would leave
// the container running unsupervised.
package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	version "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// Client is a connection to the containerd of one shim.
type Client struct{ conn *grpc.ClientConn }

// Of connects to the daemon that the shim's -address names.
func Of(root string, s *scan.Shim) (*Client, error) {
	if s.Address == "" {
		return nil, fmt.Errorf("shim %d has no -address", s.PID)
	}
	if s.Foreign { // its -address names a socket of its own root directory, or what it likes
		return nil, fmt.Errorf("containerd at %s: %s", s.Address, scan.WhyForeign)
	}
	path := s.Address
	if _, err := os.Stat(path); err != nil { // another mount namespace
		path = filepath.Join(root, strconv.Itoa(s.PID), "root", s.Address)
	}
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("containerd at %s: %w", s.Address, err)
	}
	return &Client{conn}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Version returns the daemon's version.
func (c *Client) Version(ctx context.Context) (string, error) {
	v, err := version.NewVersionClient(c.conn).Version(ctx, &emptypb.Empty{})
	if err != nil {
		return "", fmt.Errorf("containerd does not answer: %w", err)
	}
	return v.Version, nil
}

// TaskGone reports whether the daemon no longer has the task, or has a new one
// whose first process is not pid: a restart policy acts within a second. With pid 0
// any task of that id counts. The daemon calls the shim's State to answer.
func (c *Client) TaskGone(ctx context.Context, namespace, id string, pid int) (bool, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	got, err := tasks.NewTasksClient(c.conn).Get(ctx, &tasks.GetRequest{ContainerID: id})
	if status.Code(err) == codes.NotFound {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("containerd, task %s: %w", id, err)
	}
	return pid != 0 && got.Process != nil && got.Process.Pid != 0 && int(got.Process.Pid) != pid, nil
}
