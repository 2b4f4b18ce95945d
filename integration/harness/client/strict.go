// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// ErrNoStatus is the error of a daemon up to 1.2.8 for an OK response without a
// status field.
var ErrNoStatus = errors.New("no status provided on response")

// The ttrpc frame: length and stream id, big endian, then type and flags.
const (
	frameHeader   = 10
	frameRequest  = 1
	frameResponse = 2
	frameMax      = 4 << 20
)

// strict is a ttrpc client as in containerd 1.0 to 1.2.8, written from the
// wire format: no time-out and no metadata in requests, a status required in
// every response.
type strict struct {
	conn    net.Conn
	lenient bool // takes a response without a status for OK, as later clients do

	mu      sync.Mutex // guards the following, and writes to conn
	next    uint32
	waiting map[uint32]chan response
	err     error
}

type response struct {
	body []byte
	err  error
}

// DialStrict connects with the old client.
func DialStrict(address string) (Caller, error) {
	conn, err := dial(address)
	if err != nil {
		return nil, err
	}
	return newStrict(conn), nil
}

func newStrict(conn net.Conn) *strict {
	c := &strict{conn: conn, next: 1, waiting: map[uint32]chan response{}}
	go c.receive()
	return c
}

func (c *strict) Close() error { return c.conn.Close() }

func (c *strict) Call(ctx context.Context, method string, req, resp proto.Message) error {
	call := V1{}.say(method, req, resp)
	answer, err := c.send(call)
	if err != nil {
		return err
	}
	select {
	case r := <-answer:
		if r.err != nil {
			return r.err
		}
		return c.decode(r.body, resp)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send returns when the request is on its way.
func (c *strict) send(call call) (<-chan response, error) {
	payload, err := proto.Marshal(call.req)
	if err != nil {
		return nil, err
	}
	body, err := proto.Marshal(&ttrpc.Request{Service: call.service, Method: call.method, Payload: payload})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	answer := make(chan response, 1) // filled once by receive
	id := c.next
	c.next += 2
	c.waiting[id] = answer
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	frame = binary.BigEndian.AppendUint32(frame, id)
	frame = append(frame, frameRequest, 0)
	_, err = c.conn.Write(append(frame, body...))
	return answer, err
}

// receive hands each response to its caller until the connection ends.
func (c *strict) receive() {
	for {
		id, body, err := readFrame(c.conn)
		c.mu.Lock()
		if err != nil {
			c.err = fmt.Errorf("connection to the shim: %w", err)
			for _, w := range c.waiting {
				w <- response{err: c.err}
			}
			c.waiting = nil
			c.mu.Unlock()
			return
		}
		if w, ok := c.waiting[id]; ok {
			delete(c.waiting, id)
			w <- response{body: body}
		}
		c.mu.Unlock()
	}
}

func readFrame(r io.Reader) (id uint32, body []byte, err error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[:4])
	if n > frameMax {
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	if h[8] != frameResponse {
		return 0, nil, fmt.Errorf("frame of type %d", h[8])
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return binary.BigEndian.Uint32(h[4:8]), body, err
}

// decode takes a response apart.
func (c *strict) decode(body []byte, resp proto.Message) error {
	var r ttrpc.Response
	if err := proto.Unmarshal(body, &r); err != nil {
		return fmt.Errorf("response: %w", err)
	}
	if r.GetStatus() == nil && !c.lenient {
		return ErrNoStatus
	}
	if r.GetStatus().GetCode() != 0 {
		return status.ErrorProto(r.GetStatus())
	}
	return proto.Unmarshal(r.GetPayload(), resp)
}
