// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/runtime/linux/runctypes"
	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// requests has each method of the service with a request that it takes.
var requests = []struct {
	method string
	sample proto.Message
}{
	{"State", &api.StateRequest{ID: containerID}},
	{"Create", &api.CreateTaskRequest{ID: "c2", Terminal: true, Options: &anypb.Any{TypeUrl: "containerd.linux.runc.CreateOptions"}}},
	{"Start", &api.StartRequest{ID: containerID}},
	{"Delete", &emptypb.Empty{}},
	{"DeleteProcess", &api.DeleteProcessRequest{ID: "e1"}},
	{"ListPids", &api.ListPidsRequest{ID: containerID}},
	{"Pause", &emptypb.Empty{}},
	{"Resume", &emptypb.Empty{}},
	{"Checkpoint", &api.CheckpointTaskRequest{Path: "p", Options: &anypb.Any{TypeUrl: "containerd.linux.runc.CheckpointOptions"}}},
	{"Kill", &api.KillRequest{ID: "e1", Signal: 9}},
	{"Exec", &api.ExecProcessRequest{ID: "e2", Spec: &anypb.Any{Value: []byte(`{"args":["exit","3"]}`)}}},
	{"ResizePty", &api.ResizePtyRequest{ID: "e1", Width: 80, Height: 25}},
	{"CloseIO", &api.CloseIORequest{ID: "e1", Stdin: true}},
	{"ShimInfo", &emptypb.Empty{}},
	{"Update", &api.UpdateTaskRequest{Resources: &anypb.Any{Value: []byte(`{"memory":{"limit":1}}`)}}},
	{"Wait", &api.WaitRequest{ID: "e1"}},
	{"NoSuchMethod", &emptypb.Empty{}},
}

// FuzzRequests: whatever is asked of a shim without a container, with one, and with an
// exec in it, is answered with a known code, and the next client is served. The rig
// finds what is left behind.
func FuzzRequests(f *testing.F) {
	for i, r := range requests {
		payload, err := proto.Marshal(r.sample)
		if err != nil {
			f.Fatal(err)
		}
		for prepared := range uint8(3) {
			f.Add(uint8(i), prepared, payload)
		}
		f.Add(uint8(i), uint8(2), append(payload, 0xff))
	}
	f.Fuzz(func(t *testing.T, method, prepared uint8, payload []byte) {
		if bytes.IndexByte(payload, '/') >= 0 {
			return // a path: a logger that is run, a file that is made
		}
		r := newLimitedRig(t, false, Limits{Reply: 10 * time.Millisecond, Asked: 10 * time.Millisecond}) // else each end takes a second
		if prepared%3 > 0 {
			r.run()
		}
		if prepared%3 > 1 {
			r.execRun("e1", "wait", "0")
		}
		conn, err := net.Dial("unix", r.socket)
		r.must(err)
		c := ttrpc.NewClient(conn)
		defer c.Close()
		ask := requests[int(method)%len(requests)]
		raw := &emptypb.Empty{} // it is sent as it is, and any answer fits into one
		raw.ProtoReflect().SetUnknown(payload)
		limit := soon
		if ask.method == "Wait" {
			limit = 300 * time.Millisecond // what it waits for may never come
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		err = c.Call(ctx, "containerd.runtime.linux.shim.v1.Shim", ask.method, raw, &emptypb.Empty{})
		code := status.Code(err)
		if errors.Is(err, context.DeadlineExceeded) {
			code = codes.DeadlineExceeded
		}
		if code == codes.Unknown || err != nil && strings.Contains(err.Error(), "panic") {
			t.Errorf("%s(%q): %v", ask.method, payload, err)
		}
		request := proto.Clone(ask.sample)
		if proto.Unmarshal(payload, request) != nil && ask.method != "Wait" && code != codes.InvalidArgument && code != codes.Unimplemented {
			t.Errorf("%s(%q), which is no request: %v", ask.method, payload, err)
		}
		if _, err := r.connect().ShimInfo(r.ctx(), empty); err != nil {
			t.Errorf("the next client: %v", err)
		}
	})
}

// FuzzOptions: options of each type are read, or refused as the caller's mistake.
func FuzzOptions(f *testing.F) {
	kinds := []proto.Message{&runctypes.RuncOptions{}, &runctypes.CreateOptions{}, &runctypes.CheckpointOptions{}}
	for i, m := range kinds {
		a, err := encodeAny(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), a.TypeUrl, a.Value)
		f.Add(uint8(i), "types.containerd.io/"+a.TypeUrl, []byte("\x0a\x01x"))
	}
	f.Fuzz(func(t *testing.T, kind uint8, url string, value []byte) {
		m := proto.Clone(kinds[int(kind)%len(kinds)])
		err := decodeOptions(&anypb.Any{TypeUrl: url, Value: value}, m)
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q %q: %v", url, value, err)
		}
	})
}
