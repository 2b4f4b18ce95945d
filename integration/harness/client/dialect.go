// SPDX-License-Identifier: Apache-2.0

package client

import "google.golang.org/protobuf/proto"

// Dialect is the service that a shim has. The checks are written in the requests of V1;
// a dialect says them in its own words.
type Dialect interface {
	// say returns the call that does what the method of V1 does with req, and whose
	// answer belongs into resp.
	say(method string, req, resp proto.Message) call
}

// call is a request of a shim's own service.
type call struct {
	service, method string
	req, resp       proto.Message
	heard           func() // what the caller waits for is filled from resp; nil: they are the same
}

// decoded passes a decoded answer on to the caller.
func (c call) decoded(err error) error {
	if err == nil && c.heard != nil {
		c.heard()
	}
	return err
}

// V1 is the service of a v1 shim, which has one container.
type V1 struct{}

func (V1) say(method string, req, resp proto.Message) call {
	return call{service: "containerd.runtime.linux.shim.v1.Shim", method: method, req: req, resp: resp}
}
