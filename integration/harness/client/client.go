// SPDX-License-Identifier: Apache-2.0

// Package client calls a shim over ttrpc as old and new daemons do: with today's client,
// or with one that is as strict as that of containerd up to 1.2.8; a v1 shim, or a
// container of a v2 shim. A call
// that is not answered ends with a Stuck error, and not by a deadline that the shim
// would see.
package client

import (
	"context"
	"time"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Patience is how long a call may take in checks that are about something else:
// far more than any healthy call needs on a busy machine.
const Patience = 10 * time.Second

// Client is the shim's service for one caller. Each call is given Patience,
// which the shim does not see, unless Deadline sets a time-out that it does.
type Client struct {
	Caller
	Namespace string        // sent as metadata where not empty, by the modern caller
	Patience  time.Duration // how long the harness waits
	Deadline  time.Duration // the request's own time-out; 0: none
}

func ask[T any, R interface {
	*T
	proto.Message
}](c Client, method string, req proto.Message) (R, error) {
	return bounded(c.Patience, method, func() (R, error) {
		ctx := context.Background()
		if c.Namespace != "" {
			ctx = ttrpc.WithMetadata(ctx, ttrpc.MD{"containerd-namespace-ttrpc": {c.Namespace}})
		}
		if c.Deadline > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.Deadline)
			defer cancel()
		}
		resp := R(new(T))
		return resp, c.Call(ctx, method, req, resp)
	})
}

// do is ask for a method with an empty response.
func do(c Client, method string, req proto.Message) error {
	_, err := ask[emptypb.Empty](c, method, req)
	return err
}

// Within returns the client with another patience.
func (c Client) Within(d time.Duration) Client {
	c.Patience = d
	return c
}

// WithDeadline returns the client with a time-out in its requests, as a caller of
// the daemon may set it.
func (c Client) WithDeadline(d time.Duration) Client {
	c.Deadline = d
	return c
}

// CreateTask is the RPC Create.
func (c Client) CreateTask(r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	return ask[task.CreateTaskResponse](c, "Create", r)
}

// Start is the RPC Start, and then State, which every containerd asks for once
// it has published the start. Its answer is not waited for.
func (c Client) Start(id string) (*task.StartResponse, error) {
	resp, err := c.StartOnly(id)
	if err == nil {
		go func() { _, _ = c.State(id) }() // the shim may be gone by then
	}
	return resp, err
}

// StartOnly is the RPC Start of a daemon that stalls before it publishes the
// start.
func (c Client) StartOnly(id string) (*task.StartResponse, error) {
	return ask[task.StartResponse](c, "Start", &task.StartRequest{ID: id})
}

// Delete is the RPC Delete, of the container.
func (c Client) Delete() (*task.DeleteResponse, error) {
	return ask[task.DeleteResponse](c, "Delete", &emptypb.Empty{})
}

// DeleteProcess is the RPC DeleteProcess, of an exec.
func (c Client) DeleteProcess(id string) (*task.DeleteResponse, error) {
	return ask[task.DeleteResponse](c, "DeleteProcess", &task.DeleteProcessRequest{ID: id})
}

// State is the RPC State.
func (c Client) State(id string) (*task.StateResponse, error) {
	return ask[task.StateResponse](c, "State", &task.StateRequest{ID: id})
}

// ListPids is the RPC ListPids.
func (c Client) ListPids(id string) (*task.ListPidsResponse, error) {
	return ask[task.ListPidsResponse](c, "ListPids", &task.ListPidsRequest{ID: id})
}

// Pause is the RPC Pause.
func (c Client) Pause() error { return do(c, "Pause", &emptypb.Empty{}) }

// Resume is the RPC Resume.
func (c Client) Resume() error { return do(c, "Resume", &emptypb.Empty{}) }

// Checkpoint is the RPC Checkpoint.
func (c Client) Checkpoint(r *task.CheckpointTaskRequest) error { return do(c, "Checkpoint", r) }

// Kill is the RPC Kill.
func (c Client) Kill(id string, signal uint32, all bool) error {
	return do(c, "Kill", &task.KillRequest{ID: id, Signal: signal, All: all})
}

// ExecProcess is the RPC Exec.
func (c Client) ExecProcess(r *task.ExecProcessRequest) error { return do(c, "Exec", r) }

// ResizePty is the RPC ResizePty.
func (c Client) ResizePty(id string, width, height uint32) error {
	return do(c, "ResizePty", &task.ResizePtyRequest{ID: id, Width: width, Height: height})
}

// CloseIO is the RPC CloseIO.
func (c Client) CloseIO(id string) error {
	return do(c, "CloseIO", &task.CloseIORequest{ID: id, Stdin: true})
}

// ShimInfo is the RPC ShimInfo.
func (c Client) ShimInfo() (*task.ShimInfoResponse, error) {
	return ask[task.ShimInfoResponse](c, "ShimInfo", &emptypb.Empty{})
}

// Update is the RPC Update.
func (c Client) Update(r *task.UpdateTaskRequest) error { return do(c, "Update", r) }

// Wait is the RPC Wait.
func (c Client) Wait(id string) (*task.WaitResponse, error) {
	return ask[task.WaitResponse](c, "Wait", &task.WaitRequest{ID: id})
}

// Method calls a method by its name, for those that no shim has.
func (c Client) Method(name string, req proto.Message) error { return do(c, name, req) }
