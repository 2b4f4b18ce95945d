// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	events "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// One unary gRPC call over a unix socket, by hand. Linking grpc-go costs every
// shim on a host memory that it never gives back, and takes an idle one above
// the goal (ARCHITECTURE.md, Dependencies). One request without flow control
// needs only the little of HTTP/2 (RFC 9113) that is below.

// forwardPath is the method. Its request has the same fields as that of the ttrpc
// service of the same name, and the envelope holds the namespace, so that no
// metadata is needed.
const forwardPath = "/containerd.services.events.v1.Events/Forward"

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Frame types and flags of RFC 9113, section 6.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameContinuation = 0x9

	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	frameHeaderSize = 9
	maxFrame        = 16 << 10 // the default SETTINGS_MAX_FRAME_SIZE, which we do not raise
	stream          = 1        // the one request's
)

const grpcUnimplemented = "12"

// viaGRPC forwards e over the daemon's gRPC socket.
func viaGRPC(ctx context.Context, address string, e *types.Envelope) error {
	message, err := proto.Marshal(&events.ForwardRequest{Envelope: e})
	if err != nil {
		return err
	}
	conn, release, err := dial(ctx, address)
	if err != nil {
		return err
	}
	defer release() // the answer is in, or never will be
	call := grpcCall{conn: conn}
	if err := call.send(message); err != nil {
		return fmt.Errorf("grpc forward to %s: %w", address, err)
	}
	if err := call.receive(); err != nil {
		return fmt.Errorf("grpc forward to %s: %w", address, err)
	}
	return nil
}

// grpcCall is one call on a connection of its own.
type grpcCall struct {
	conn net.Conn
	// block collects the header block fragments of a HEADERS frame.
	block []byte
	// ending reports that those headers end the stream.
	ending  bool
	decoder *hpack.Decoder
	status  string // grpc-status, from headers or trailers
	message string // grpc-message
	http    string // :status
}

func (c *grpcCall) send(message []byte) error {
	out := []byte(preface)
	out = appendFrame(out, frameSettings, 0, 0, nil)
	out = appendFrame(out, frameHeaders, flagEndHeaders, stream, requestHeaders())
	body := make([]byte, 5, 5+len(message)) // not compressed, length
	binary.BigEndian.PutUint32(body[1:], uint32(len(message)))
	body = append(body, message...)
	if len(body) > maxFrame {
		return fmt.Errorf("event of %d bytes", len(message))
	}
	out = appendFrame(out, frameData, flagEndStream, stream, body)
	_, err := c.conn.Write(out)
	return err
}

func requestHeaders() []byte {
	var block sliceWriter
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", forwardPath}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"user-agent", "containerd-shim"},
	} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // sliceWriter does not fail
	}
	return block
}

type sliceWriter []byte

func (w *sliceWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

func appendFrame(out []byte, typ, flags byte, id uint32, payload []byte) []byte {
	n := len(payload)
	out = append(out, byte(n>>16), byte(n>>8), byte(n), typ, flags)
	out = binary.BigEndian.AppendUint32(out, id)
	return append(out, payload...)
}

// receive reads frames until the stream has ended, and returns its result.
func (c *grpcCall) receive() error {
	c.decoder = hpack.NewDecoder(4096, c.field)
	for {
		ended, err := c.frame()
		if err != nil {
			return err
		}
		if ended {
			return c.result()
		}
	}
}

func (c *grpcCall) field(f hpack.HeaderField) {
	switch f.Name {
	case "grpc-status":
		c.status = f.Value
	case "grpc-message":
		c.message = f.Value
	case ":status":
		c.http = f.Value
	}
}

func (c *grpcCall) result() error {
	switch {
	case c.status == "0":
		return nil
	case c.status == grpcUnimplemented:
		return fmt.Errorf("%s: %w", c.message, errUnsupported)
	case c.status != "":
		return fmt.Errorf("status %s: %s", c.status, c.message)
	}
	return fmt.Errorf("no grpc status, http status %q", c.http)
}

// frame handles one frame; ended reports whether it was the stream's last.
func (c *grpcCall) frame() (ended bool, err error) {
	var h [frameHeaderSize]byte
	if _, err := io.ReadFull(c.conn, h[:]); err != nil {
		return false, err
	}
	length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	typ, flags, id := h[3], h[4], binary.BigEndian.Uint32(h[5:])&^(1<<31)
	if length > maxFrame {
		return false, fmt.Errorf("frame of %d bytes", length)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(c.conn, payload); err != nil {
		return false, err
	}
	switch typ {
	case frameSettings:
		if flags&flagAck == 0 {
			_, err = c.conn.Write(appendFrame(nil, frameSettings, flagAck, 0, nil))
		}
	case framePing:
		if flags&flagAck == 0 {
			_, err = c.conn.Write(appendFrame(nil, framePing, flagAck, 0, payload))
		}
	case frameHeaders:
		if payload, err = stripPadding(payload, flags); err != nil {
			return false, err
		}
		if flags&flagPriority != 0 {
			if len(payload) < 5 {
				return false, errors.New("short HEADERS frame")
			}
			payload = payload[5:]
		}
		c.block, c.ending = payload, flags&flagEndStream != 0
		return c.headers(flags)
	case frameContinuation:
		c.block = append(c.block, payload...)
		return c.headers(flags)
	case frameData:
		return flags&flagEndStream != 0, nil // the answer is an Empty
	case frameReset:
		if id == stream {
			return false, errors.New("stream reset by the daemon")
		}
	case frameGoAway:
		return false, errors.New("connection refused by the daemon (GOAWAY)")
	}
	return false, err
}

// headers decodes the block if flags say that it is complete.
func (c *grpcCall) headers(flags byte) (ended bool, err error) {
	if flags&flagEndHeaders == 0 {
		return false, nil
	}
	if _, err := c.decoder.Write(c.block); err != nil {
		return false, err
	}
	return c.ending, c.decoder.Close()
}

func stripPadding(p []byte, flags byte) ([]byte, error) {
	if flags&flagPadded == 0 {
		return p, nil
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, errors.New("bad padding")
	}
	return p[1 : len(p)-int(p[0])], nil
}
