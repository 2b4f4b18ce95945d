// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/state"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Handshaker lets in only peers with this process's user and group (the socket
// may be abstract, and so open to everybody), makes every successful reply on
// their connections carry a status, and tells s which starts are answered and
// which States are asked for.
//
// The ttrpc client of containerd 1.0.0-1.2.8 refuses a reply without a status
// ("no status provided on response"), and then leaks the shim and the
// container. Servers built with grpc 1.23 or later leave out a status that is
// OK. An empty status, two bytes, is enough for the old clients and means the
// same as none to the new ones.
func Handshaker(s *Supervisor) ttrpc.Handshaker {
	return handshaker{ttrpc.UnixSocketRequireSameUser(), s}
}

type handshaker struct {
	sameUser ttrpc.UnixCredentialsFunc
	s        *Supervisor
}

// watcher is told what a connection carries: an answer just before it is
// written, because the client's next request may arrive before Write returns,
// and a State before it is handled.
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
	one := newConn(c, h.s.exits, h.s.conns)
	if st, ok := h.s.conns.stateOf(c); ok {
		one.resume(st.Connection)
		h.s.exits.connected(st.number, one)
	}
	h.s.conns.add(one)
	return one, creds, nil
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
type call struct {
	method, id string
	// frame is the whole request if the next program may handle it again, else
	// nil: a Wait, which changes nothing (but see answerHere), and the request for that
	// program.
	frame []byte
	// answered reports that the answer is being written.
	answered bool
}

// conn is a client's connection that watches the frames pass. ttrpc's server
// reads from one goroutine and writes from another.
type conn struct {
	net.Conn
	watcher watcher
	conns   *connections

	// Only the reader uses these three.

	// first is what Read returns before anything from the socket.
	first []byte
	// request is the part of a frame that was read so far.
	request []byte
	// skip is how many bytes are still to come of a frame that the server
	// refuses for its size.
	skip int

	// Only the writer uses these three.

	// head keeps the beginning of a frame back until it is long enough to tell
	// whether a status must be added.
	head []byte
	// rest is how many more bytes of the present frame pass through unchanged.
	rest int
	// ended are the streams whose answers are being written.
	ended []uint32

	mu sync.Mutex
	// +checklocks:mu
	calls map[uint32]call // by stream
}

func newConn(c net.Conn, w watcher, all *connections) *conn {
	return &conn{Conn: c, watcher: w, conns: all, calls: make(map[uint32]call)}
}

// Close closes the connection. It may be called more than once.
func (c *conn) Close() error {
	c.conns.remove(c)
	c.watcher.disconnected(c, c.unanswered())
	return c.Conn.Close()
}

// unanswered returns the ids of the processes whose starts are not answered.
func (c *conn) unanswered() (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, unanswered := range c.calls {
		if unanswered.starts() && !unanswered.answered {
			ids = append(ids, unanswered.id)
		}
	}
	return ids
}

// starts reports whether the request is one that makes a process.
func (c call) starts() bool { return c.method == "Create" || c.method == "Start" }

// unread reports whether the client has yet to read something that was written
// (SIOCOUTQ, which counts a unix socket's unread bytes). It is false for a nil
// conn and for a closed one.
func (c *conn) unread() bool {
	if c == nil {
		return false
	}
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

// Read waits while conns.reads is shut. A deadline that has passed does not fail
// it: that is how a Read is brought to wait, see standStill.
func (c *conn) Read(b []byte) (int, error) {
	for {
		n, err := c.readOnce(b)
		switch {
		case n == 0 && errclass.Starved(err):
			time.Sleep(errclass.Pause)
		case n > 0 || !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		}
	}
}

func (c *conn) readOnce(b []byte) (n int, err error) {
	c.conns.reads.Enter()
	defer c.conns.reads.Leave()
	if len(c.first) > 0 {
		n = copy(b, c.first)
		if c.first = c.first[n:]; len(c.first) == 0 {
			c.first = nil
		}
	} else {
		n, err = c.Conn.Read(b)
	}
	c.see(b[:n])
	return n, err
}

// see notes the frames in what was read.
func (c *conn) see(p []byte) {
	for len(p) > 0 {
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
			c.note(c.request, call{method: "a request that is too large"})
			c.skip, c.request = size, c.request[:0]
		case len(c.request) == headerSize+size:
			c.read(c.request)
			if c.request = c.request[:0]; cap(c.request) > keepRequest {
				c.request = nil
			}
		}
	}
}

// keepRequest is the size in bytes up to which the buffer for requests is kept
// for the next one.
const keepRequest = 4 << 10

// read looks at one whole frame from the client.
func (c *conn) read(frame []byte) {
	if frame[typeOffset] != typeRequest {
		return
	}
	var r ttrpc.Request
	_ = proto.Unmarshal(frame[headerSize:], &r) // the server answers a bad one with an error
	request := call{method: r.Method}
	switch r.Method {
	case "Create", "Start", "State", "Wait":
		var state api.StateRequest // has its id where the other requests have theirs
		if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(r.Payload, &state) == nil {
			request.id = state.ID
		}
	}
	if r.Method == "Wait" || isUpgrade(&r) {
		request.frame = bytes.Clone(frame)
	}
	c.note(frame, request)
	if r.Method == "State" {
		c.watcher.asked(c, request.id)
	}
}

// note records a request with this header as unanswered.
func (c *conn) note(header []byte, request call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[binary.BigEndian.Uint32(header[streamOffset:])] = request
}

// resume gives a new conn the state of an adopted connection: requests that are
// handled again, a half-read frame, and requests that can only be refused.
func (c *conn) resume(st *state.Connection) {
	for _, r := range st.Requests {
		c.first = append(c.first, r...)
	}
	c.first = append(c.first, st.Partial...)
	for i, e := range st.Errors {
		if err := c.refuse(e); err != nil {
			logrus.WithError(err).WithField("answers", len(st.Errors)-i).Error("answer requests that were lost")
			return // a client that does not read is waited for only once
		}
	}
}

// refuse answers a request with an error. It is called before anything else
// writes to the connection.
func (c *conn) refuse(e state.Error) error {
	code := codes.Code(e.Code)
	if code == codes.OK {
		code = codes.Internal
	}
	payload, err := proto.Marshal(&ttrpc.Response{Status: status.New(code, safeText(e.Text)).Proto()})
	if err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	frame = append(binary.BigEndian.AppendUint32(frame, e.Stream), typeResponse, 0)
	_ = c.SetWriteDeadline(time.Now().Add(refuseTime)) // fails only if it is closed
	n, err := c.send(append(frame, payload...))
	if err != nil && n > 0 {
		_ = c.Conn.Close() // half a frame was written: the client could not read what follows
	}
	return errors.Join(err, c.SetWriteDeadline(time.Time{}))
}

// refuseTime bounds the wait for a client that does not read.
const refuseTime = time.Second

// Write waits at the beginning of a frame while conns.writes is shut; a frame
// that is half written is finished.
func (c *conn) Write(b []byte) (n int, err error) {
	if !c.inFrame() {
		c.conns.writes.Enter()
	}
	defer func() {
		if err != nil || !c.inFrame() {
			c.conns.writes.Leave()
		}
	}()
	if n, err = c.write(b); err == nil && !c.inFrame() {
		c.forgetAnswered()
	}
	return n, err
}

// inFrame reports whether a frame is half written.
func (c *conn) inFrame() bool { return c.rest > 0 || len(c.head) > 0 }

// forgetAnswered drops the requests whose answers are written.
func (c *conn) forgetAnswered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, stream := range c.ended {
		delete(c.calls, stream)
	}
	c.ended = c.ended[:0]
}

func (c *conn) write(b []byte) (int, error) {
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
		if _, err := c.send(out); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// answer notes that a call is being answered; ok says that it is without an error.
func (c *conn) answer(stream uint32, ok bool) {
	c.mu.Lock()
	ended, known := c.calls[stream]
	if known {
		c.calls[stream] = call{method: ended.method, id: ended.id, frame: ended.frame, answered: true}
	}
	c.mu.Unlock()
	c.ended = append(c.ended, stream)
	if ok && known && ended.starts() {
		c.watcher.answered(c, ended.method, ended.id)
	}
}

// flushHead appends the frame's beginning to out, with a status if one must be
// added, once enough of it is there to decide that.
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
