// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/internal/state"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// sink is a connection that collects what is written.
type sink struct {
	net.Conn
	bytes.Buffer
	err error
}

func (s *sink) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	return s.Buffer.Write(b)
}
func (s *sink) Close() error { return nil }

func (s *sink) Read(b []byte) (int, error) { return s.Buffer.Read(b) }

// witness records what a connection reports.
type witness struct{ told []string }

func (w *witness) answered(_ *conn, method, id string) { w.told = append(w.told, method+" "+id+" ok") }
func (w *witness) asked(_ *conn, id string)            { w.told = append(w.told, "State "+id) }
func (w *witness) disconnected(_ *conn, unanswered []string) {
	w.told = append(w.told, fmt.Sprint("closed ", unanswered))
}

func frame(typ byte, id uint32, payload []byte) []byte {
	h := make([]byte, headerSize, headerSize+len(payload))
	binary.BigEndian.PutUint32(h, uint32(len(payload)))
	binary.BigEndian.PutUint32(h[4:], id)
	h[typeOffset] = typ
	return append(h, payload...)
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// frameCases returns frames as a server writes them, and as they must arrive.
func frameCases(t *testing.T) (in, want []byte) {
	big := marshal(t, &ttrpc.Response{Payload: bytes.Repeat([]byte{0x0a}, 9000)})
	failed := marshal(t, &ttrpc.Response{Status: status.New(codes.NotFound, "gone").Proto()})
	okStatus := append([]byte{statusTag, 0}, marshal(t, &ttrpc.Response{Payload: []byte("x")})...)
	for _, c := range []struct {
		name     string
		typ      byte
		payload  []byte
		addition bool
	}{
		{"reply with a payload", typeResponse, marshal(t, &ttrpc.Response{Payload: []byte("x")}), true},
		{"empty reply", typeResponse, nil, true},
		{"error", typeResponse, failed, false},
		{"reply that has a status", typeResponse, okStatus, false},
		{"reply larger than any buffer", typeResponse, big, true},
		{"data frame", 3, []byte{0x12, 1, 'x'}, false},
		{"empty data frame", 3, nil, false},
	} {
		in = append(in, frame(c.typ, 7, c.payload)...)
		if c.addition {
			c.payload = append([]byte{0x0a, 0}, c.payload...)
		}
		want = append(want, frame(c.typ, 7, c.payload)...)
	}
	return in, want
}

// TestFramesSplitAnywhere: a status is added to exactly the replies that lack
// one, wherever the writes cut the stream.
func TestFramesSplitAnywhere(t *testing.T) {
	in, want := frameCases(t)
	for cut := range len(in) + 1 {
		var s sink
		c := newConn(&s, &witness{}, newConnections())
		for _, part := range [][]byte{in[:cut], in[cut:]} {
			if n, err := c.Write(part); n != len(part) || err != nil {
				t.Fatalf("cut at %d: write of %d bytes: %d, %v", cut, len(part), n, err)
			}
		}
		if !bytes.Equal(s.Bytes(), want) {
			t.Fatalf("cut at %d: got %d bytes, want %d", cut, s.Len(), len(want))
		}
	}
	for _, size := range []int{1, 2, 3, 7, 11} {
		var s sink
		c := newConn(&s, &witness{}, newConnections())
		for rest := in; len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := c.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if !bytes.Equal(s.Bytes(), want) {
			t.Fatalf("pieces of %d: got %d bytes, want %d", size, s.Len(), len(want))
		}
	}
}

func TestFrameAtTheLimitIsNotEnlarged(t *testing.T) {
	payload := make([]byte, maxPayload-1)
	payload[0] = 0x12
	var s sink
	if _, err := newConn(&s, &witness{}, newConnections()).Write(frame(typeResponse, 1, payload)); err != nil {
		t.Fatal(err)
	}
	if got := binary.BigEndian.Uint32(s.Bytes()); got != maxPayload-1 {
		t.Fatalf("payload of %d bytes, the clients' limit is %d", got, maxPayload)
	}
}

func TestFrameWriteErrorIsReturned(t *testing.T) {
	broken := errors.New("broken")
	n, err := newConn(&sink{err: broken}, &witness{}, newConnections()).Write(frame(typeResponse, 1, []byte{0x12, 0}))
	if n != 0 || !errors.Is(err, broken) {
		t.Fatalf("got %d, %v", n, err)
	}
}

// readFrame reads one frame from the wire.
func readFrame(t *testing.T, c net.Conn) (typ byte, payload []byte) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	h := make([]byte, headerSize)
	if _, err := io.ReadFull(c, h); err != nil {
		t.Fatal(err)
	}
	payload = make([]byte, binary.BigEndian.Uint32(h))
	if _, err := io.ReadFull(c, payload); err != nil {
		t.Fatal(err)
	}
	return h[typeOffset], payload
}

// TestEveryReplyHasAStatus is contract §2.2: in containerd 1.0.0-1.2.8 a call fails
// if its OK reply has no status field. The test reads what goes over the wire.
func TestEveryReplyHasAStatus(t *testing.T) {
	r := newRig(t, false)
	conn, err := net.Dial("unix", r.socket)
	r.must(err)
	defer conn.Close()
	id := uint32(1)
	call := func(method string, req proto.Message) *ttrpc.Response {
		t.Helper()
		var payload []byte
		if req != nil {
			payload = marshal(t, req)
		}
		_, err := conn.Write(frame(1, id, marshal(t, &ttrpc.Request{
			Service: "containerd.runtime.linux.shim.v1.Shim", Method: method, Payload: payload,
		})))
		r.must(err)
		id += 2
		typ, answer := readFrame(t, conn)
		if typ != typeResponse || len(answer) < 2 || answer[0] != 0x0a {
			t.Fatalf("%s: frame type %d, payload begins % x: no status", method, typ, answer[:min(len(answer), 8)])
		}
		var resp ttrpc.Response
		r.must(proto.Unmarshal(answer, &resp))
		if resp.Status == nil {
			t.Fatalf("%s: no status", method)
		}
		return &resp
	}
	for _, c := range []struct {
		method string
		req    proto.Message
		code   codes.Code
	}{
		{"ShimInfo", nil, codes.OK},
		{"State", &api.StateRequest{ID: containerID}, codes.NotFound},
		{"Create", r.createRequest(), codes.OK},
		{"Start", &api.StartRequest{ID: containerID}, codes.OK},
		{"State", &api.StateRequest{ID: containerID}, codes.OK},
		{"ListPids", &api.ListPidsRequest{ID: containerID}, codes.OK},
		{"Pause", nil, codes.OK},
		{"Resume", nil, codes.OK},
		{"Checkpoint", &api.CheckpointTaskRequest{}, codes.OK},
		{"CloseIO", &api.CloseIORequest{ID: containerID}, codes.OK},
		{"ResizePty", &api.ResizePtyRequest{ID: containerID, Width: 1, Height: 1}, codes.OK},
		{"Kill", &api.KillRequest{ID: containerID, Signal: 9}, codes.OK},
		{"Wait", &api.WaitRequest{ID: containerID}, codes.OK},
		{"Delete", nil, codes.OK},
		{"NoSuchMethod", nil, codes.Unimplemented},
	} {
		if got := codes.Code(call(c.method, c.req).Status.Code); got != c.code {
			t.Errorf("%s: code %v, want %v", c.method, got, c.code)
		}
	}
}

// peer is the test binary in the role of a client: it connects, waits for the
// connection to be closed, and returns 0 if nothing came over it.
func peer(socket string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 3
	}
	if n, _ := io.Copy(io.Discard, conn); n != 0 { // until it is closed, by either error
		return 4
	}
	return 0
}

// TestHandshakeRefusesOthers: an abstract socket is open to everybody in the
// network namespace (B60, CVE-2020-15257). The peer is this test binary, run as
// user nobody.
func TestHandshakeRefusesOthers(t *testing.T) {
	r := newRig(t, false)
	l, err := net.Listen("unix", "@shim-test-"+t.Name())
	r.must(err)
	defer l.Close()
	for _, other := range []bool{true, false} {
		peer := exec.Command("/proc/self/exe")
		peer.Env = append(os.Environ(), "SHIM_TEST_PEER="+l.Addr().String())
		if other {
			peer.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		ticket := testReaper.Begin()
		r.must(peer.Start())
		child, err := ticket.Claim(peer.Process.Pid, time.Time{}, nil)
		ticket.Close()
		r.must(err)
		r.must(l.(*net.UnixListener).SetDeadline(time.Now().Add(soon)))
		conn, err := l.Accept()
		r.must(err)
		_, _, err = Handshaker(r.sup).Handshake(t.Context(), conn)
		if refused := err != nil; refused != other {
			t.Errorf("peer of another user: %v, handshake: %v", other, err)
		}
		r.must(conn.Close())
		if e := child.Wait(); e.Status != 0 {
			t.Errorf("peer: status %d", e.Status)
		}
	}
}

// TestConnTellsWhatPasses: only OK replies are reported, wherever reads and writes
// cut the stream, and whatever else passes.
func TestConnTellsWhatPasses(t *testing.T) {
	request := func(stream uint32, method, id string) []byte {
		payload := marshal(t, &api.StartRequest{ID: id})
		return frame(typeRequest, stream, marshal(t, &ttrpc.Request{Service: "s", Method: method, Payload: payload}))
	}
	var in, out []byte
	for _, f := range [][]byte{
		request(1, "Start", "a"), request(3, "Start", "b"), request(5, "State", "a"), request(7, "Kill", "a"),
		frame(3, 9, []byte("data")), frame(typeRequest, 11, []byte{0xff}),
		frame(typeRequest, 13, make([]byte, maxPayload+1)), // the server refuses it, and goes on
		request(15, "Create", "c"), request(17, "State", ""), request(19, "Start", "d"),
	} {
		in = append(in, f...)
	}
	failed := marshal(t, &ttrpc.Response{Status: status.New(codes.NotFound, "gone").Proto()})
	for _, f := range [][]byte{
		frame(typeResponse, 3, failed), frame(typeResponse, 7, nil),
		frame(typeResponse, 1, marshal(t, &ttrpc.Response{Payload: []byte("x")})), frame(typeResponse, 15, nil),
	} {
		out = append(out, f...)
	}
	want := []string{"State a", "State ", "Start a ok", "Create c ok", "closed [d]"}
	for _, size := range []int{1, 2, 3, 7, 11, 1000} {
		var s sink
		s.Buffer.Write(in)
		w := &witness{}
		c := newConn(&s, w, newConnections())
		for b := make([]byte, size); ; {
			if _, err := c.Read(b); err != nil {
				break
			}
		}
		for rest := out; len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := c.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		_ = c.Close() // it has no connection
		if !slices.Equal(w.told, want) {
			t.Errorf("pieces of %d: reported %q, want %q", size, w.told, want)
		}
		c.mu.Lock() // 5, 11, 13, 17 and 19 are not answered
		if len(c.calls) != 5 || cap(c.request) > keepRequest {
			t.Errorf("pieces of %d: %d calls and %d bytes are kept", size, len(c.calls), cap(c.request))
		}
		c.mu.Unlock()
	}
}

// FuzzConnRead: whatever a client sends reaches the server unchanged.
func FuzzConnRead(f *testing.F) {
	f.Add(frame(typeRequest, 1, []byte("\x0a\x01s\x12\x05Start\x1a\x03\x0a\x01a")), 3)
	f.Add(frame(typeRequest, 1, nil), 1)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0, 9}, 2)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		var s sink
		s.Buffer.Write(data)
		c := newConn(&s, &witness{}, newConnections())
		var got []byte
		b := make([]byte, 1+max(0, size%64))
		for {
			n, err := c.Read(b)
			got = append(got, b[:n]...)
			if err != nil {
				break
			}
		}
		if !bytes.Equal(got, data) {
			t.Errorf("read %q of %q", got, data)
		}
	})
}

// deaf is a connection whose client reads nothing.
type deaf struct {
	net.Conn
	takes, writes int
	closed        bool
}

func (d *deaf) SetWriteDeadline(time.Time) error { return nil }
func (d *deaf) Write([]byte) (int, error)        { d.writes++; return d.takes, os.ErrDeadlineExceeded }
func (d *deaf) Close() error                     { d.closed = true; return nil }

// TestClientThatReadsNoRefusal: a client that does not read is waited for only
// once, however many of its requests were lost. Half an answer ends the connection.
func TestClientThatReadsNoRefusal(t *testing.T) {
	for _, takes := range []int{0, 5} {
		d := &deaf{takes: takes}
		newConn(d, &witness{}, newConnections()).resume(&state.Connection{Errors: []state.Error{{Stream: 1, Text: "lost"}, {Stream: 3, Text: "lost"}}})
		if d.writes != 1 || d.closed != (takes > 0) {
			t.Errorf("it takes %d bytes: %d attempts, closed %v", takes, d.writes, d.closed)
		}
	}
}
