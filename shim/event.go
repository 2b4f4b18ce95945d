// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"containerd-shim.v1/reaper"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// exitEvent returns one TaskExit. id is the exec's, or the container's own.
func (s *Supervisor) exitEvent(id string, e reaper.Exit) *types.Envelope {
	at := timestamppb.New(e.At)
	value, err := proto.Marshal(&events.TaskExit{
		ContainerID: s.containerID(),
		ID:          id,
		Pid:         uint32(e.Pid),
		ExitStatus:  uint32(e.Status),
		ExitedAt:    at,
	})
	if err != nil {
		panic(err) // every string in it came in as valid UTF-8
	}
	return &types.Envelope{
		Timestamp: at,
		Namespace: s.env.Namespace,
		Topic:     "/tasks/exit",
		Event:     &anypb.Any{TypeUrl: "containerd.events.TaskExit", Value: value},
	}
}
