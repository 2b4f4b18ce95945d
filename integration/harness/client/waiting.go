// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Waiting is a Wait that the shim has read and not answered yet.
type Waiting struct {
	*Pending
	Reply  task.WaitResponse // set when Pending is done without an error
	client *strict
}

// BeginWait sends a Wait on a connection of its own to the shim at address, which
// speaks d, and returns when the shim has answered a ShimInfo that was sent behind it:
// a server reads the requests of one connection in order. Close closes the
// connection, also after an error if there is a Waiting.
func BeginWait(address, id string, d Dialect) (*Waiting, error) {
	conn, err := dial(address)
	if err != nil {
		return nil, err
	}
	client := newStrict(conn)
	client.lenient = true
	w := &Waiting{client: client}
	call := d.say("Wait", &task.WaitRequest{ID: id}, &w.Reply)
	wait, err := client.send(call)
	if err != nil {
		return w, fmt.Errorf("send Wait: %w", err)
	}
	info, err := client.send(d.say("ShimInfo", &emptypb.Empty{}, &task.ShimInfoResponse{}))
	if err != nil {
		return w, fmt.Errorf("send ShimInfo: %w", err)
	}
	if _, err := bounded(Patience, "ShimInfo", func() (response, error) { r := <-info; return r, r.err }); err != nil {
		return w, err
	}
	w.Pending = Async("Wait of "+id, func() error {
		r := <-wait // the end of the connection is an answer too
		if r.err != nil {
			return r.err
		}
		return call.decoded(client.decode(r.body, call.resp))
	})
	return w, nil
}

// Close closes the connection, as a client does that goes away.
func (w *Waiting) Close() error { return w.client.Close() }
