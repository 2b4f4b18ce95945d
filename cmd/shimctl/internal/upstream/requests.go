// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/internal/stackdump"
	"containerd-shim.v1/internal/state"
)

// shimService is the name of the shim's service on the wire.
const shimService = "containerd.runtime.linux.shim.v1.Shim"

// pending is a request that is not answered yet.
type pending struct {
	g       *stackdump.Goroutine
	conn    *connection
	stream  uint32
	method  string
	request uint64 // the address of the decoded request, 0 if it is not shown
	payload uint64 // the address of the encoded request, which may be overwritten
	size    int    // of the encoded request
	id      string // of the process, "" if it is not known
}

// goroutine returns the dump's goroutine with this number, or nil. A shim that is wedged
// for long has thousands of them, and stands still meanwhile.
func (r *reader) goroutine(id uint64) *stackdump.Goroutine {
	if r.byID == nil {
		r.byID = make(map[uint64]*stackdump.Goroutine, len(r.dump.Goroutines))
		for i := range r.dump.Goroutines {
			r.byID[r.dump.Goroutines[i].ID] = &r.dump.Goroutines[i]
		}
	}
	return r.byID[id]
}

// begun reports whether the handler has got past the locks and runs the runtime. One that
// waits for the reaper's lock, to be told of the runtime's exit, has not forked it yet.
func (p *pending) begun() bool {
	if slices.ContainsFunc(p.g.Frames, func(f stackdump.Frame) bool { return strings.HasSuffix(f.Func, ".(*Monitor).Subscribe") }) {
		return false
	}
	return p.runs()
}

// runs reports whether the handler is about to run the runtime, or does.
func (p *pending) runs() bool {
	return has(p.g, "github.com/containerd/go-runc.(*Runc).") || has(p.g, "github.com/containerd/go-runc.cmdOutput")
}

// requests finds the request of every handler, and adds to its connection either a frame
// that the next program handles as if it had just come, or an error.
func (r *reader) requests() error {
	waits := r.waits()
	var all []*pending
	at := map[uint64]int{} // how many requests are at an address
	for i := range r.dump.Goroutines {
		p, err := r.pending(&r.dump.Goroutines[i])
		if err != nil {
			return err
		}
		if p != nil {
			all = append(all, p)
			at[p.request]++
		}
	}
	for _, p := range all {
		if at[p.request] > 1 { // all but one are freed
			p.request = 0
		}
		message, err := r.message(p, waits)
		if err != nil {
			return err
		}
		if p.conn == nil { // its client is gone; a start that has begun is finished all the same
			r.report.Abandoned++
			continue
		}
		r.report.Requests = append(r.report.Requests, Request{Method: p.method, ID: p.id, Stream: p.stream, Answered: message != nil})
		if message == nil {
			p.conn.Errors = append(p.conn.Errors, state.Error{Stream: p.stream, Code: unavailable,
				Text: "the call was interrupted when the shim was replaced; what it has done is not known"})
			continue
		}
		frame, err := frameOfRequest(p, message)
		if err != nil {
			return err
		}
		p.conn.Requests = append(p.conn.Requests, frame)
	}
	for _, c := range r.conns {
		slices.SortFunc(c.Requests, func(a, b []byte) int {
			return cmp.Compare(binary.BigEndian.Uint32(a[4:]), binary.BigEndian.Uint32(b[4:]))
		})
	}
	return r.m.Err()
}

// unavailable is gRPC's code for "try again".
const unavailable = 14

// frameOfRequest encodes a request as the client has.
func frameOfRequest(p *pending, message proto.Message) ([]byte, error) {
	payload, err := proto.Marshal(message)
	if err != nil {
		return nil, err
	}
	body, err := proto.Marshal(&ttrpc.Request{Service: shimService, Method: p.method, Payload: payload})
	if err != nil {
		return nil, err
	}
	const typeRequest = 1
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = append(binary.BigEndian.AppendUint32(b, p.stream), typeRequest, 0)
	return append(b, body...), nil
}

// pending returns the request that the goroutine handles, or nil if it handles none.
func (r *reader) pending(g *stackdump.Goroutine) (*pending, error) {
	p, ok := &pending{g: g}, false
	var raw *stackdump.Frame
	switch {
	case !r.calls && has(g, r.ttrpc+".(*serverConn).run.func2"):
		f := frameOf(g, r.ttrpc+".(*serverConn).run.func2")
		stream, ok := streamIn(f, r.Era.StackArgs)
		if !ok {
			r.m.Fail("a request's stream is not shown: %s", f.Args)
			return nil, nil
		}
		p.stream, raw = stream, frameOf(g, r.ttrpc+".(*serviceSet).dispatch")
		if raw != nil {
			if a := words(raw.Args); len(a) >= 9 && exact(a[7]) && exact(a[8]) { // s, ctx, ctx, svc, len, method, len, payload, len, cap
				p.payload, p.size = value(a[7]), int(value(a[8]))
			}
		}
	case r.calls && has(g, r.ttrpc+".(*serviceSet).handle.func1"):
		if raw = frameOf(g, r.ttrpc+".(*serviceSet).unaryCall"); raw != nil {
			a := words(raw.Args) // s, ctx, ctx, method, info, data, len, cap
			if len(a) < 7 || !exact(a[5]) || !exact(a[6]) {
				r.m.Fail("a request is not shown: %s", raw.Args)
				return nil, nil
			}
			p.payload, p.size = value(a[5]), int(value(a[6]))
			stream, ok := r.streamFor[g.ID]
			if !ok {
				stream, ok = r.streamOf[p.payload]
			}
			if !ok {
				return nil, fmt.Errorf("%w: a request's stream is not in memory", ErrRefused)
			}
			p.stream = stream
		}
	default:
		return nil, nil
	}
	prefix := r.Release.service + ".(*Service)."
	f := frameOf(g, prefix)
	if f == nil || raw == nil {
		return nil, fmt.Errorf("%w: a request is being answered", ErrBusy)
	}
	for i := range g.Frames { // the outermost: a method may call another
		if strings.HasPrefix(g.Frames[i].Func, prefix) {
			f = &g.Frames[i]
		}
	}
	p.method = strings.TrimPrefix(f.Func, prefix)
	p.request = r.shown(g, f)
	if p.conn, ok = r.of(g); !ok {
		return nil, fmt.Errorf("%w: a request cannot be told to a connection", ErrRefused)
	}
	return p, nil
}

// streamIn returns the stream of the request that the closure handles in which ttrpc 1.0
// and 1.1 do so. Before Go 1.17 what it has captured precedes its argument, the stream: in
// Go 1.10 conn, ctx, ctx, {stream, request}, responses, done; in Go 1.15 conn comes after
// the request.
func streamIn(f *stackdump.Frame, stackArgs bool) (stream uint32, ok bool) {
	switch a := words(f.Args); {
	case !stackArgs && len(a) > 0 && exact(a[0]):
		return uint32(value(a[0])), true
	case stackArgs && len(a) == 8: // nothing sets the upper half of a word that has a stream
		stream = uint32(value(a[7]))
		return stream, stream == uint32(value(a[2])) || stream == uint32(value(a[3]))
	}
	return 0, false
}

// shown returns the address of the decoded request of a method of the Service, if the
// dump shows it and the request is still in memory; otherwise 0.
func (r *reader) shown(g *stackdump.Goroutine, method *stackdump.Frame) uint64 {
	a := words(method.Args) // s, ctx, ctx, request; on the stack also the results
	switch {
	case has(g, r.process+".") || has(g, "github.com/containerd/go-runc."):
		// A method needs its request until it has got past the locks of the Service. Then
		// that may have been freed, and another request be in its place.
		return 0
	case r.Era.StackArgs && len(a) >= 4, len(a) == 4 && exact(a[3]): // on the stack nothing marks a word as stale
		return value(a[3])
	}
	return 0
}

// message returns the request as it is to be handled again, or nil if it cannot be.
func (r *reader) message(p *pending, waits map[uint64]string) (proto.Message, error) {
	if p.method == "Create" {
		return nil, fmt.Errorf("%w: the container is being created", ErrBusy)
	}
	message := p.ofProcess(r.received(p))
	if message == nil {
		r.m.Try(func() { message = r.decoded(p, waits) })
	}
	if message == nil {
		message = p.ofProcess(r.encoded(p))
	}
	switch p.method {
	case "Wait":
		if message == nil && p.conn != nil { // a client might take an error for the container's end
			return nil, fmt.Errorf("%w: it is not known for whom a Wait waits", ErrRefused)
		}
	case "Start":
		// Its streams are there although its runtime may not be.
		if o := r.objects[p.id]; o != nil && (p.runs() || has(p.g, r.process+".(*execProcess).start")) {
			return message, r.underway(o)
		}
	case "Exec":
		if r.objects[p.id] != nil {
			return nil, fmt.Errorf("%w: an exec is being made", ErrBusy)
		}
	case "Kill":
		if k, ok := message.(*shimapi.KillRequest); ok && p.begun() && k.Signal != uint32(unix.SIGKILL) {
			return nil, nil // the signal may have been sent already
		}
	case "Pause", "Resume", "Checkpoint", "Update":
		if p.begun() {
			return nil, nil
		}
	}
	return message, nil
}

// decoded reads the decoded request; nil if it is not shown.
func (r *reader) decoded(p *pending, waits map[uint64]string) proto.Message {
	switch p.method { // no fields
	case "Delete", "Pause", "Resume", "ShimInfo":
		return &emptypb.Empty{}
	case "Wait":
		if id, ok := waits[p.g.ID]; ok {
			p.id = id
			return &shimapi.WaitRequest{ID: id}
		}
	}
	if p.request == 0 {
		return nil
	}
	m, at := r.m, p.request+r.Release.message
	if p.method == "Update" {
		return &shimapi.UpdateTaskRequest{Resources: r.any(at)}
	}
	id := m.String(at)
	if m.Err() != nil || !wellFormed(id) {
		return nil
	}
	if p.method != "Exec" && (r.objects[id] == nil || p.id != "" && p.id != id) {
		return nil // the decoded request was freed, and its memory is used for something else
	}
	p.id = id
	if message := p.ofProcess(id); message != nil {
		return message
	}
	switch p.method {
	case "Kill":
		return &shimapi.KillRequest{ID: id, Signal: m.Uint32(at + 16), All: m.Bool(at + 20)}
	case "ResizePty":
		return &shimapi.ResizePtyRequest{ID: id, Width: m.Uint32(at + 16), Height: m.Uint32(at + 20)}
	case "CloseIO":
		return &shimapi.CloseIORequest{ID: id, Stdin: m.Bool(at + 16)}
	case "Exec":
		e := &shimapi.ExecProcessRequest{ID: id, Terminal: m.Bool(at + 16), Stdin: m.String(at + 24), Stdout: m.String(at + 40), Stderr: m.String(at + 56), Spec: r.any(at + 72)}
		if e.Spec == nil || m.Err() != nil || !strings.Contains(e.Spec.TypeUrl, "Process") || !bytes.HasPrefix(e.Spec.Value, []byte("{")) {
			return nil
		}
		return e
	}
	return nil
}

// any returns the protobuf Any whose address is at the address, or nil.
func (r *reader) any(at uint64) *anypb.Any {
	a := r.m.Word(at)
	if a == 0 {
		return nil
	}
	a += r.Release.any
	array, n := r.m.Slice(a + 16)
	return &anypb.Any{TypeUrl: r.m.String(a), Value: r.m.Bytes(array, n)}
}

// received returns the id of the process whose method the handler is in, or "". Once it is
// in there, nothing else of the decoded request need be in memory any more.
func (r *reader) received(p *pending) string {
	id := ""
	for _, f := range p.g.Frames {
		for _, typ := range []string{".(*Init).", ".(*execProcess)."} {
			if a := words(f.Args); strings.HasPrefix(f.Func, r.process+typ) && len(a) > 0 && exact(a[0]) {
				if o := r.byAddress[value(a[0])]; o != nil && (o.exec || id == "") {
					id = o.ID // an exec asks the container, too
				}
			}
		}
	}
	return id
}

// encoded returns the id in the encoded request if that has nothing else, and the id is
// that of a process; otherwise "".
func (r *reader) encoded(p *pending) (id string) {
	if p.payload == 0 || p.size < 2 || p.size >= 128 {
		return ""
	}
	r.m.Try(func() {
		b := r.m.Bytes(p.payload, p.size)
		if b[0] == 0x0a && int(b[1]) == p.size-2 && r.objects[string(b[2:])] != nil {
			id = string(b[2:])
		}
	})
	return id
}

// ofProcess returns the request if its method needs nothing but the id of a process;
// otherwise nil.
func (p *pending) ofProcess(id string) proto.Message {
	if id == "" {
		return nil
	}
	p.id = id
	switch p.method {
	case "State":
		return &shimapi.StateRequest{ID: id}
	case "Start":
		return &shimapi.StartRequest{ID: id}
	case "Wait":
		return &shimapi.WaitRequest{ID: id}
	case "DeleteProcess":
		return &shimapi.DeleteProcessRequest{ID: id}
	case "ListPids":
		return &shimapi.ListPidsRequest{ID: id}
	}
	return nil
}

// waits returns, by the number of each goroutine that waits for an exit, the id of the
// process: the goroutine waits at the channel that the exit closes.
func (r *reader) waits() map[uint64]string {
	waits := map[uint64]string{}
	for id, o := range r.objects {
		if at := r.m.Word(o.at + o.waitBlock); at != 0 {
			for _, w := range r.m.Chan(at).Receivers {
				waits[w.ID] = id
			}
		}
	}
	return waits
}

// wellFormed reports whether containerd would accept id as one.
func wellFormed(id string) bool {
	for _, c := range []byte(id) {
		if c <= ' ' || c >= 0x7f || c == '/' {
			return false
		}
	}
	return id != "" && len(id) <= 255
}
