// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"syscall"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Handshaker lets in only peers with this process's user and group (the socket
// may be abstract, and so open to everybody), makes every successful reply on
// their connections carry a status, and tells s of starts that are answered
// and States that are asked.
//
// The ttrpc client of containerd 1.0.0-1.2.8 refuses a reply without a status
// ("no status provided on response"), and then leaks the shim and the
// container. Servers built with grpc 1.23 or later leave out a status that is
// OK. An empty status, two bytes, is enough for the old clients and the same as
// none for the new ones.
func Handshaker(s *Supervisor) ttrpc.Handshaker {
	return handshaker{ttrpc.UnixSocketRequireSameUser(), s.exits}
}

type handshaker struct {
	sameUser ttrpc.UnixCredentialsFunc
	watcher  watcher
}

// watcher is told what a connection carries: of an answer just before it is
// written, for the client's next request may be there before Write returns,
// and of a question before it is handled.
type watcher interface {
	answered(c *conn, method, id string)
	asked(c *conn, id string)
	disconnected(c *conn, unanswered []string)
}

func (h handshaker) Handshake(ctx context.Context, c net.Conn) (net.Conn, any, error) {
	c, creds, err := h.sameUser.Handshake(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	return newConn(c, h.watcher), creds, nil
}

// A ttrpc frame has a header of ten bytes: the payload's length (4 bytes,
// big-endian), the stream's id (4), the type and the flags.
const (
	headerSize   = 10
	streamOffset = 4
	typeOffset   = 8
	typeRequest  = 1
	typeResponse = 2
	maxPayload   = 4 << 20
	statusTag    = 0x0a // field 1 of ttrpc's Response, length-delimited
)

// emptyStatus is that field with an empty google.rpc.Status.
var emptyStatus = []byte{statusTag, 0}

// call is a request that is not answered yet.
type call struct{ method, id string }

// conn is a client's connection, on which it sees the frames pass. ttrpc's
// server reads from one goroutine and writes from one.
type conn struct {
	net.Conn
	watcher watcher

	// request is what was read of a frame; the reader's, as is skip: how many
	// bytes are still to come of one that the server refuses for its size.
	request []byte
	skip    int

	// head is the beginning of a frame to be written until it is long enough
	// to tell whether a status must be added; the writer's, as are the others.
	head []byte
	// rest is how many bytes of the present frame pass through unchanged.
	rest int

	mu sync.Mutex
	// +checklocks:mu
	calls map[uint32]call // by stream: the starts that are not answered yet
}

func newConn(c net.Conn, w watcher) *conn {
	return &conn{Conn: c, watcher: w, calls: make(map[uint32]call)}
}

// Close closes the connection. It may be called more than once.
func (c *conn) Close() error {
	c.watcher.disconnected(c, c.unanswered())
	return c.Conn.Close()
}

// unanswered returns the ids of the processes whose starts are not answered.
func (c *conn) unanswered() (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, unanswered := range c.calls {
		ids = append(ids, unanswered.id)
	}
	return ids
}

// unread reports whether the client has yet to read something that was written
// (unix(7), SIOCOUTQ).
func (c *conn) unread() bool {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = rc.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }) // fails only if closed
	return err == nil && n > 0
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for p := b[:n]; len(p) > 0; {
		if c.skip > 0 {
			m := min(c.skip, len(p))
			p, c.skip = p[m:], c.skip-m
			continue
		}
		need := headerSize
		if len(c.request) >= headerSize {
			need += int(binary.BigEndian.Uint32(c.request))
		}
		m := min(need-len(c.request), len(p))
		c.request, p = append(c.request, p[:m]...), p[m:]
		if len(c.request) < headerSize {
			continue
		}
		size := int(binary.BigEndian.Uint32(c.request))
		switch {
		case size > maxPayload:
			c.skip, c.request = size, c.request[:0]
		case len(c.request) == headerSize+size:
			c.read(c.request)
			if c.request = c.request[:0]; cap(c.request) > keepRequest {
				c.request = nil
			}
		}
	}
	return n, err
}

// keepRequest is how large a buffer for requests is kept.
const keepRequest = 4 << 10

// read looks at one frame from the client.
func (c *conn) read(frame []byte) {
	if frame[typeOffset] != typeRequest {
		return
	}
	var r ttrpc.Request
	if proto.Unmarshal(frame[headerSize:], &r) != nil {
		return // the server says so
	}
	var state api.StateRequest // has its id where the other requests have theirs
	switch r.Method {
	case "Create", "Start", "State":
		if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(r.Payload, &state) != nil {
			return
		}
	default:
		return
	}
	if r.Method == "State" {
		c.watcher.asked(c, state.ID)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[binary.BigEndian.Uint32(frame[streamOffset:])] = call{r.Method, state.ID}
}

func (c *conn) Write(b []byte) (int, error) {
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

// answer ends a call, with or without an error.
func (c *conn) answer(stream uint32, ok bool) {
	c.mu.Lock()
	ended, known := c.calls[stream]
	delete(c.calls, stream)
	c.mu.Unlock()
	if ok && known {
		c.watcher.answered(c, ended.method, ended.id)
	}
}

// flushHead appends the frame's beginning to out once it is decided.
func (c *conn) flushHead(out []byte) []byte {
	if len(c.head) < headerSize {
		return out
	}
	length := int(binary.BigEndian.Uint32(c.head))
	if length > 0 && len(c.head) == headerSize {
		return out
	}
	payload := c.head[headerSize:]
	bare := c.head[typeOffset] == typeResponse && (length == 0 || payload[0] != statusTag)
	c.answer(binary.BigEndian.Uint32(c.head[streamOffset:]), bare)
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
