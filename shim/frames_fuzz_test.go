// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// requestFrame is a request as a daemon sends it.
func requestFrame(tb testing.TB, stream uint32, method string, m proto.Message) []byte {
	payload, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := proto.Marshal(&ttrpc.Request{Service: "containerd.runtime.linux.shim.v1.Shim", Method: method, Payload: payload, TimeoutNano: 1e9})
	if err != nil {
		tb.Fatal(err)
	}
	return frame(typeRequest, stream, r)
}

// FuzzFrames: whatever bytes come to the server of a shim with a container, it serves the
// next client. The rig finds what is left behind.
func FuzzFrames(f *testing.F) {
	var all []byte
	for i, r := range requests {
		all = append(all, requestFrame(f, uint32(2*i+1), r.method, r.sample)...)
	}
	f.Add(all)
	f.Add(all[:len(all)-1])
	f.Add(requestFrame(f, 1, "Kill", &api.KillRequest{ID: containerID, Signal: 9}))
	f.Add(frame(typeResponse, 1, nil))
	f.Add(frame(typeRequest, 2, nil))                       // streams of clients are odd
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0}) // a size that nobody has
	f.Add([]byte("GET HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.IndexByte(data, '/') >= 0 {
			return // a path: a logger that is run, a file that is made
		}
		r := newLimitedRig(t, false, Limits{Reply: 10 * time.Millisecond, Asked: 10 * time.Millisecond})
		r.run()
		conn, err := net.Dial("unix", r.socket)
		r.must(err)
		defer conn.Close()
		_, _ = conn.Write(data) // the server may hang up in the middle
		_ = conn.(*net.UnixConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // a Wait has no answer
		for b := make([]byte, 4<<10); err == nil; {
			_, err = conn.Read(b)
		}
		if _, err := r.connect().ShimInfo(r.ctx(), empty); err != nil {
			t.Errorf("the next client: %v", err)
		}
	})
}

// FuzzConnWrite: every frame that the server writes reaches the client with its stream,
// type and payload, before which a response has a status, however it is cut into Writes.
func FuzzConnWrite(f *testing.F) {
	for _, m := range []proto.Message{
		&ttrpc.Response{}, &ttrpc.Response{Payload: []byte("p")}, &ttrpc.Response{Status: status.New(codes.NotFound, "gone").Proto()},
		&api.StateResponse{ID: "x", Pid: 7},
	} {
		payload, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(frame(typeResponse, 1, payload), frame(typeResponse, 3, nil)...), 3)
		f.Add(frame(3, 5, payload), 7)
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 2, 0, 9}, 2)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		written := func(size int) []byte {
			var s sink
			c := newConn(&s, &witness{}, newConnections())
			for p := data; len(p) > 0; {
				n := min(size, len(p))
				if m, err := c.Write(p[:n]); m != n || err != nil {
					t.Fatalf("Write: %d of %d, %v", m, n, err)
				}
				p = p[n:]
			}
			return s.Bytes()
		}
		out := written(1 + max(0, size%64))
		if whole := written(len(data)); !bytes.Equal(out, whole) {
			t.Fatalf("in pieces %q, whole %q", out, whole)
		}
		for in := data; len(in) >= headerSize; {
			head, n := in[:headerSize], int(binary.BigEndian.Uint32(in))
			if len(in)-headerSize < n {
				return
			}
			want := in[headerSize : headerSize+n]
			in = in[headerSize+n:]
			if head[typeOffset] == typeResponse && (n == 0 || want[0] != statusTag) && n+len(emptyStatus) <= maxPayload {
				want = append(bytes.Clone(emptyStatus), want...)
			}
			if len(out) < headerSize+len(want) || int(binary.BigEndian.Uint32(out)) != len(want) ||
				!bytes.Equal(out[streamOffset:headerSize], head[streamOffset:]) || !bytes.Equal(out[headerSize:headerSize+len(want)], want) {
				t.Fatalf("after the header %q: got %q, want the payload %q", head, out, want)
			}
			out = out[headerSize+len(want):]
		}
	})
}
