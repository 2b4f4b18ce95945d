// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"

	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types/runc/options"
	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// V2 is the task service of a v2 shim, for one of its containers. Its requests name the
// container and, where they are about an exec, that; what V1 calls an id is either.
type V2 struct {
	Version   int    // of the service: 2 of containerd 1.3 to 1.7, 3 of later ones, with the same messages
	Container string // its id
	Root      string // the runtime's --root, without the namespace that the shim adds
}

// exec is the id of an exec; "" for the container's own process.
func (d V2) exec(id string) string {
	if id == d.Container {
		return ""
	}
	return id
}

func (d V2) say(method string, req, resp proto.Message) call {
	c := call{service: fmt.Sprintf("containerd.task.v%d.Task", d.Version), method: method, req: req, resp: resp}
	switch r := req.(type) {
	case *task.CreateTaskRequest:
		answer := resp.(*task.CreateTaskResponse)
		return saying(c, d.create(r), func(a *taskv2.CreateTaskResponse) { answer.Pid = a.GetPid() })
	case *task.StartRequest:
		answer := resp.(*task.StartResponse)
		return saying(c, &taskv2.StartRequest{ID: d.Container, ExecID: d.exec(r.GetID())},
			func(a *taskv2.StartResponse) { answer.ID, answer.Pid = r.GetID(), a.GetPid() })
	case *task.DeleteProcessRequest:
		return d.delete(c, r.GetID())
	case *task.StateRequest:
		answer := resp.(*task.StateResponse)
		return saying(c, &taskv2.StateRequest{ID: d.Container, ExecID: d.exec(r.GetID())}, func(a *taskv2.StateResponse) {
			answer.ID, answer.Bundle, answer.Pid, answer.Status = r.GetID(), a.GetBundle(), a.GetPid(), a.GetStatus()
			answer.Stdin, answer.Stdout, answer.Stderr, answer.Terminal = a.GetStdin(), a.GetStdout(), a.GetStderr(), a.GetTerminal()
			answer.ExitStatus, answer.ExitedAt = a.GetExitStatus(), a.GetExitedAt()
		})
	case *task.WaitRequest:
		answer, ok := resp.(*task.WaitResponse)
		if !ok {
			return c // a method that no shim has
		}
		return saying(c, &taskv2.WaitRequest{ID: d.Container, ExecID: d.exec(r.GetID())},
			func(a *taskv2.WaitResponse) { answer.ExitStatus, answer.ExitedAt = a.GetExitStatus(), a.GetExitedAt() })
	case *task.ListPidsRequest:
		answer := resp.(*task.ListPidsResponse)
		c.method = "Pids"
		return saying(c, &taskv2.PidsRequest{ID: d.Container}, func(a *taskv2.PidsResponse) { answer.Processes = a.GetProcesses() })
	case *task.KillRequest:
		c.req = &taskv2.KillRequest{ID: d.Container, ExecID: d.exec(r.GetID()), Signal: r.GetSignal(), All: r.GetAll()}
	case *task.ExecProcessRequest:
		c.req = &taskv2.ExecProcessRequest{
			ID: d.Container, ExecID: r.GetID(), Terminal: r.GetTerminal(),
			Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Spec: r.GetSpec(),
		}
	case *task.ResizePtyRequest:
		c.req = &taskv2.ResizePtyRequest{ID: d.Container, ExecID: d.exec(r.GetID()), Width: r.GetWidth(), Height: r.GetHeight()}
	case *task.CloseIORequest:
		c.req = &taskv2.CloseIORequest{ID: d.Container, ExecID: d.exec(r.GetID()), Stdin: r.GetStdin()}
	case *task.UpdateTaskRequest:
		c.req = &taskv2.UpdateTaskRequest{ID: d.Container, Resources: r.GetResources()}
	case *task.CheckpointTaskRequest:
		c.req = &taskv2.CheckpointTaskRequest{ID: d.Container, Path: r.GetPath(), Options: checkpointOptions(r.GetOptions())}
	case *emptypb.Empty:
		return d.bare(c)
	}
	return c
}

// bare is a call whose request in V1 has nothing in it.
func (d V2) bare(c call) call {
	switch c.method {
	case "Delete":
		return d.delete(c, "")
	case "Pause":
		c.req = &taskv2.PauseRequest{ID: d.Container}
	case "Resume":
		c.req = &taskv2.ResumeRequest{ID: d.Container}
	case "ShimInfo":
		answer := c.resp.(*task.ShimInfoResponse)
		c.method = "Connect"
		return saying(c, &taskv2.ConnectRequest{ID: d.Container}, func(a *taskv2.ConnectResponse) { answer.ShimPid = a.GetShimPid() })
	}
	return c
}

// saying completes a call with its request and what is done with its answer.
func saying[T any, R interface {
	*T
	proto.Message
}](c call, req proto.Message, heard func(R)) call {
	answer := R(new(T))
	c.req, c.resp, c.heard = req, answer, func() { heard(answer) }
	return c
}

func (d V2) delete(c call, exec string) call {
	answer := c.resp.(*task.DeleteResponse)
	c.method = "Delete"
	return saying(c, &taskv2.DeleteRequest{ID: d.Container, ExecID: exec}, func(a *taskv2.DeleteResponse) {
		answer.Pid, answer.ExitStatus, answer.ExitedAt = a.GetPid(), a.GetExitStatus(), a.GetExitedAt()
	})
}

// create says with options what a v1 shim gets with its flags and in the request.
func (d V2) create(r *task.CreateTaskRequest) *taskv2.CreateTaskRequest {
	o, err := anypb.New(&options.Options{BinaryName: r.GetRuntime(), Root: d.Root})
	if err != nil {
		panic(err) // it has no field that could be wrong
	}
	o.TypeUrl = "containerd.runc.v1.Options" // typeurl's form, without a host
	return &taskv2.CreateTaskRequest{
		ID: r.GetID(), Bundle: r.GetBundle(), Rootfs: r.GetRootfs(), Terminal: r.GetTerminal(),
		Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(),
		Checkpoint: r.GetCheckpoint(), ParentCheckpoint: r.GetParentCheckpoint(), Options: o,
	}
}

// checkpointOptions are those of V1 under their name in V2: the fields that both have are
// the same.
func checkpointOptions(o *anypb.Any) *anypb.Any {
	if o.GetTypeUrl() != "containerd.linux.runc.CheckpointOptions" {
		return o
	}
	return &anypb.Any{TypeUrl: "containerd.runc.v1.CheckpointOptions", Value: o.GetValue()}
}
