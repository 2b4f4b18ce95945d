// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"strings"
	"testing"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

type ask func(ctx context.Context, c api.ShimService) error

// discard returns an ask that makes the call and drops its answer.
func discard[Q, R any](fn func(api.ShimService, context.Context, Q) (R, error), req Q) ask {
	return func(ctx context.Context, c api.ShimService) error {
		_, err := fn(c, ctx, req)
		return err
	}
}

var (
	resources = &anypb.Any{Value: []byte("{}")}
	execSpec  = &anypb.Any{Value: []byte(`{"args":["wait","0"],"cwd":"/"}`)}

	doDelete     = discard(api.ShimService.Delete, empty)
	doPause      = discard(api.ShimService.Pause, empty)
	doResume     = discard(api.ShimService.Resume, empty)
	doCheckpoint = discard(api.ShimService.Checkpoint, &api.CheckpointTaskRequest{})
	doUpdate     = discard(api.ShimService.Update, &api.UpdateTaskRequest{Resources: resources})
	doListPids   = discard(api.ShimService.ListPids, &api.ListPidsRequest{ID: containerID})
)

func doKill(id string, sig uint32) ask {
	return discard(api.ShimService.Kill, &api.KillRequest{ID: id, Signal: sig})
}
func doExec(id string) ask {
	return discard(api.ShimService.Exec, &api.ExecProcessRequest{ID: id, Spec: execSpec})
}
func doStart(id string) ask { return discard(api.ShimService.Start, &api.StartRequest{ID: id}) }
func doState(id string) ask { return discard(api.ShimService.State, &api.StateRequest{ID: id}) }
func doWait(id string) ask  { return discard(api.ShimService.Wait, &api.WaitRequest{ID: id}) }
func doClose(id string) ask { return discard(api.ShimService.CloseIO, &api.CloseIORequest{ID: id}) }
func doResize(id string, w uint32) ask {
	return discard(api.ShimService.ResizePty, &api.ResizePtyRequest{ID: id, Width: w, Height: 1})
}
func doDeleteProcess(id string) ask {
	return discard(api.ShimService.DeleteProcess, &api.DeleteProcessRequest{ID: id})
}

type wantCode struct {
	name string
	ask  ask
	code codes.Code
	text string
}

// unknownIDs is the same in every state of the container.
func unknownIDs(id string) []wantCode {
	const no = "does not exist"
	return []wantCode{
		{"State", doState(id), codes.NotFound, no},
		{"Start", doStart(id), codes.NotFound, no},
		{"Wait", doWait(id), codes.NotFound, no},
		{"CloseIO", doClose(id), codes.NotFound, no},
		{"ResizePty", doResize(id, 1), codes.NotFound, no},
		{"DeleteProcess", doDeleteProcess(id), codes.NotFound, no},
	}
}

func noContainer() []wantCode {
	const no = "container must be created"
	return []wantCode{
		{"Pause", doPause, codes.FailedPrecondition, no},
		{"Resume", doResume, codes.FailedPrecondition, no},
		{"Checkpoint", doCheckpoint, codes.FailedPrecondition, no},
		{"Update", doUpdate, codes.FailedPrecondition, no},
		{"Kill", doKill(containerID, 9), codes.FailedPrecondition, no},
		{"ListPids", doListPids, codes.FailedPrecondition, no},
		{"Exec", doExec("new"), codes.FailedPrecondition, no},
		{"ResizePty without id", doResize("", 1), codes.InvalidArgument, "id not provided"},
	}
}

func (r *rig) expect(phase string, cases []wantCode) {
	r.Helper()
	for _, c := range cases {
		err := c.ask(r.ctx(), r.client)
		if got := status.Code(err); got != c.code {
			r.Errorf("%s, %s: code %v, want %v (%v)", phase, c.name, got, c.code, err)
		} else if err != nil && !strings.Contains(err.Error(), c.text) {
			r.Errorf("%s, %s: %q, want %q in it", phase, c.name, err, c.text)
		}
	}
}

// TestCodes makes every call at the wrong time: contract §2.5, B48.
func TestCodes(t *testing.T) {
	const fp = codes.FailedPrecondition
	r := newRig(t, false)
	r.expect("no container", noContainer())
	r.expect("no container", unknownIDs(containerID))
	r.expect("no container", []wantCode{{"Delete", doDelete, fp, "container must be created"}})

	r.create()
	r.expect("created", unknownIDs("nobody"))
	r.expect("created", []wantCode{
		{"Pause", doPause, fp, "cannot pause task in created state"},
		{"Resume", doResume, fp, "cannot resume task in created state"},
		{"Checkpoint", doCheckpoint, fp, "cannot checkpoint a task in created state"},
		{"Kill of nobody", doKill("nobody", 9), codes.NotFound, "does not exist"},
		{"Create", discard(api.ShimService.Create, r.createRequest()), codes.AlreadyExists, ""},
	})

	r.start(containerID)
	r.expect("running", unknownIDs("nobody"))
	r.must(r.exec("e", "wait", "0"))
	long := strings.Repeat("x", 300)
	r.expect("running", []wantCode{
		{"Start", doStart(containerID), fp, "cannot start a running process"},
		{"Resume", doResume, fp, "cannot resume a running process"},
		{"Delete", doDelete, fp, "cannot delete a running process"},
		{"DeleteProcess of init", doDeleteProcess(containerID), codes.InvalidArgument, "cannot delete init process with DeleteProcess"},
		{"Exec with the container's id", doExec(containerID), codes.AlreadyExists, "id " + containerID},
		{"Exec with a used id", doExec("e"), codes.AlreadyExists, "id e"},
		{"Exec a/b", doExec("a/b"), codes.InvalidArgument, ""},
		{"Exec ..", doExec(".."), codes.InvalidArgument, ""},
		{"Exec without id", doExec(""), codes.InvalidArgument, ""},
		{"Exec with a long id", doExec(long), codes.InvalidArgument, ""},
		{"State of a long id", doState(long), codes.NotFound, ""},
		{"Exec without spec", discard(api.ShimService.Exec, &api.ExecProcessRequest{ID: "s"}), codes.InvalidArgument, ""},
		{"Kill of an exec before its start", doKill("e", 9), fp, "process not created"},
		{"Kill with a wild signal", doKill(containerID, 999), codes.InvalidArgument, ""},
		{"Resize beyond all", doResize(containerID, 1<<20), codes.InvalidArgument, ""},
		{"Update without resources", discard(api.ShimService.Update, &api.UpdateTaskRequest{}), codes.InvalidArgument, ""},
		{"Update with a broken one", discard(api.ShimService.Update, &api.UpdateTaskRequest{Resources: &anypb.Any{Value: []byte("{")}}), codes.InvalidArgument, ""},
	})

	_, err := r.client.Pause(r.ctx(), empty)
	r.must(err)
	r.expect("paused", []wantCode{
		{"Pause", doPause, fp, "cannot pause a paused container"},
		{"Start", doStart(containerID), fp, "cannot start a paused process"},
		{"Delete", doDelete, fp, "cannot delete a paused process"},
		{"Exec", doExec("p"), fp, "cannot exec in a paused state"},
	})
	_, err = r.client.Resume(r.ctx(), empty)
	r.must(err)

	r.start("e")
	r.expect("running exec", []wantCode{
		{"Start", doStart("e"), fp, "cannot start a running process"},
		{"DeleteProcess", doDeleteProcess("e"), fp, "cannot delete a running process"},
	})
	r.runtime.endExec(t)
	r.wait("e")
	r.expect("stopped exec", []wantCode{
		{"Kill", doKill("e", 9), codes.NotFound, "process already finished"},
		{"Start", doStart("e"), fp, "cannot start a stopped process"},
		{"ResizePty", doResize("e", 1), fp, "cannot resize a stopped container"},
		{"CloseIO", doClose("e"), codes.OK, ""},
	})

	r.runtime.endInit(t)
	r.wait(containerID)
	r.expect("stopped", unknownIDs("nobody"))
	r.expect("stopped", []wantCode{
		{"Start", doStart(containerID), fp, "cannot start a stopped process"},
		{"Pause", doPause, fp, "cannot pause a stopped container"},
		{"Resume", doResume, fp, "cannot resume a stopped container"},
		{"Checkpoint", doCheckpoint, fp, "cannot checkpoint a stopped container"},
		{"Update", doUpdate, fp, "cannot update a stopped container"},
		{"Exec", doExec("new"), fp, "cannot exec in a stopped state"},
		{"Kill", doKill(containerID, 9), codes.NotFound, "process already finished"},
		{"ResizePty", doResize(containerID, 1), codes.OK, ""},
		{"CloseIO", doClose(containerID), codes.OK, ""},
		{"Delete", doDelete, codes.OK, ""},
	})
	r.expect("deleted", noContainer())
	r.expect("deleted", unknownIDs("nobody"))
	r.expect("deleted", []wantCode{
		{"State", doState(containerID), codes.OK, ""}, // F15: a Delete that nobody heard is asked again
		{"Delete again", doDelete, codes.OK, ""},
		{"Create again", discard(api.ShimService.Create, r.createRequest()), codes.AlreadyExists, ""},
		{"DeleteProcess of an exec", doDeleteProcess("e"), codes.OK, ""},
		{"DeleteProcess again", doDeleteProcess("e"), codes.NotFound, ""},
	})
}
