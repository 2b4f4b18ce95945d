// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"net"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// replay is a connection from which the data of its Reader is read.
type replay struct {
	net.Conn
	*bytes.Reader
}

func (replay) Write(p []byte) (int, error)  { return len(p), nil }
func (r replay) Read(p []byte) (int, error) { return r.Reader.Read(p) }

func receiveFrom(data []byte) error {
	c := grpcCall{conn: replay{Reader: bytes.NewReader(data)}}
	return c.receive()
}

func headers(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // a buffer does not fail
	}
	return b.Bytes()
}

// okAnswers are answers of a daemon that has taken the event.
func okAnswers() map[string][]byte {
	const last = flagEndHeaders | flagEndStream
	ok := headers("grpc-status", "0")
	padded := append([]byte{3, 0, 0, 0, 0, 9}, append(bytes.Clone(ok), 0, 0, 0)...)
	begin := appendFrame(nil, frameHeaders, flagEndHeaders, stream, headers(":status", "200"))
	return map[string][]byte{
		"trailers only":       appendFrame(nil, frameHeaders, last, stream, ok),
		"headers, data":       appendFrame(appendFrame(bytes.Clone(begin), frameData, 0, stream, make([]byte, 5)), frameHeaders, last, stream, ok),
		"CONTINUATION":        appendFrame(appendFrame(nil, frameHeaders, flagEndStream, stream, ok[:2]), frameContinuation, flagEndHeaders, stream, ok[2:]),
		"padding, priority":   appendFrame(nil, frameHeaders, last|flagPadded|flagPriority, stream, padded),
		"PING and unknown":    appendFrame(appendFrame(appendFrame(nil, framePing, 0, 0, make([]byte, 8)), 0xee, 0, 0, nil), frameHeaders, last, stream, ok),
		"SETTINGS and WINDOW": appendFrame(appendFrame(appendFrame(nil, frameSettings, 0, 0, nil), 8, 0, 0, make([]byte, 4)), frameHeaders, last, stream, ok),
	}
}

func TestReceive(t *testing.T) {
	for name, data := range okAnswers() {
		if err := receiveFrom(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for cut := range data {
			if receiveFrom(data[:cut]) == nil {
				t.Errorf("%s, cut at %d of %d: taken", name, cut, len(data))
			}
		}
	}
	for name, data := range map[string][]byte{
		"status 14":       appendFrame(nil, frameHeaders, flagEndHeaders|flagEndStream, stream, headers("grpc-status", "14")),
		"no status":       appendFrame(nil, frameHeaders, flagEndHeaders|flagEndStream, stream, headers(":status", "200")),
		"reset":           appendFrame(nil, frameReset, 0, stream, make([]byte, 4)),
		"GOAWAY":          appendFrame(nil, frameGoAway, 0, 0, make([]byte, 8)),
		"data only":       appendFrame(nil, frameData, flagEndStream, stream, nil),
		"oversized frame": append([]byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1}, make([]byte, 100)...),
		"HTTP/1":          []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"bad padding":     appendFrame(nil, frameHeaders, flagEndHeaders|flagPadded, stream, []byte{9, 1}),
	} {
		if err := receiveFrom(data); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzReceive: whatever the daemon sends, there is no panic, and an event counts as
// taken only if the daemon has said so.
func FuzzReceive(f *testing.F) {
	for _, data := range okAnswers() {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := grpcCall{conn: replay{Reader: bytes.NewReader(data)}}
		if err := c.receive(); err == nil && c.status != "0" {
			t.Errorf("taken with status %q", c.status)
		}
	})
}
