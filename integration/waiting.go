// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"time"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Waiting is a Wait that the shim has read and not answered yet.
type Waiting struct {
	*Pending
	Reply  task.WaitResponse // set when Pending is done without an error
	client *strict
}

// BeginWait sends a Wait on a connection of its own, and returns when the shim
// has answered a ShimInfo that was sent behind it: a server reads the requests
// of one connection in order.
func (b *Box) BeginWait(id string) *Waiting {
	conn, err := dial(b.Shim.Address)
	b.c.Must(err, "connect to the shim")
	client := newStrict(conn)
	client.lenient = true
	b.connected(client)
	w := &Waiting{client: client}
	wait, err := client.send("Wait", &task.WaitRequest{ID: id})
	b.c.Must(err, "send Wait")
	info, err := client.send("ShimInfo", &emptypb.Empty{})
	b.c.Must(err, "send ShimInfo")
	select {
	case r := <-info:
		b.c.Must(r.err, "ShimInfo")
	case <-time.After(patience):
		b.c.Must(&Stuck{Call: "ShimInfo", Patience: patience}, "ShimInfo")
	}
	w.Pending = Async("Wait of "+id, func() error {
		r := <-wait // the end of the connection is an answer too
		if r.err != nil {
			return r.err
		}
		return client.decode(r.body, &w.Reply)
	})
	return w
}

// Leave closes the connection, as a client does that goes away.
func (w *Waiting) Leave() error { return w.client.Close() }
