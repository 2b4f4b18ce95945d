// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/binary"
	"net"

	"github.com/containerd/ttrpc"
)

// Handshaker lets in only peers with this process's user and group (the socket
// may be abstract, and so open to everybody), and makes every successful reply
// on their connections carry a status.
//
// The ttrpc client of containerd 1.0.0-1.2.8 refuses a reply without one ("no
// status provided on response"), and then leaks the shim and the container.
// Servers built with grpc 1.23 or later leave out a status that is OK. An
// empty status, two bytes, is enough for the old clients and the same as none
// for the new ones.
func Handshaker() ttrpc.Handshaker { return handshaker{ttrpc.UnixSocketRequireSameUser()} }

type handshaker struct{ sameUser ttrpc.UnixCredentialsFunc }

func (h handshaker) Handshake(ctx context.Context, c net.Conn) (net.Conn, any, error) {
	c, creds, err := h.sameUser.Handshake(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	return &statusConn{Conn: c}, creds, nil
}

// A ttrpc frame has a header of ten bytes: the payload's length (4 bytes,
// big-endian), the stream's id (4), the type and the flags.
const (
	headerSize   = 10
	typeOffset   = 8
	typeResponse = 2
	maxPayload   = 4 << 20
	statusTag    = 0x0a // field 1 of ttrpc's Response, length-delimited
)

// emptyStatus is that field with an empty google.rpc.Status.
var emptyStatus = []byte{statusTag, 0}

// statusConn edits the frames that are written to it. ttrpc's server writes
// from one goroutine per connection, so there is no lock.
type statusConn struct {
	net.Conn
	// head holds the beginning of a frame until it is long enough to tell
	// whether a status must be added.
	head []byte
	// rest is how many bytes of the present frame pass through unchanged.
	rest int
}

func (c *statusConn) Write(b []byte) (int, error) {
	out := make([]byte, 0, len(b)+len(c.head)+len(emptyStatus))
	for p := b; len(p) > 0; {
		if c.rest > 0 {
			n := min(c.rest, len(p))
			out, p, c.rest = append(out, p[:n]...), p[n:], c.rest-n
			continue
		}
		need := headerSize
		if len(c.head) >= headerSize {
			need++ // and the first byte of the payload
		}
		n := min(need-len(c.head), len(p))
		c.head, p = append(c.head, p[:n]...), p[n:]
		out = c.flushHead(out)
	}
	if len(out) > 0 {
		if _, err := c.Conn.Write(out); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// flushHead appends the frame's beginning to out once it is decided.
func (c *statusConn) flushHead(out []byte) []byte {
	if len(c.head) < headerSize {
		return out
	}
	length := int(binary.BigEndian.Uint32(c.head))
	if length > 0 && len(c.head) == headerSize {
		return out
	}
	payload := c.head[headerSize:]
	bare := c.head[typeOffset] == typeResponse && (length == 0 || payload[0] != statusTag)
	if bare && length+len(emptyStatus) <= maxPayload {
		header := append([]byte(nil), c.head[:headerSize]...)
		binary.BigEndian.PutUint32(header, uint32(length+len(emptyStatus)))
		out = append(append(out, header...), emptyStatus...)
		out = append(out, payload...)
	} else {
		out = append(out, c.head...)
	}
	c.rest = length - len(payload)
	c.head = c.head[:0]
	return out
}
