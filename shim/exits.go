// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"time"

	"containerd-shim/proc"
	"containerd-shim/reaper"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// lastExecWait bounds how long the container's exit is held back for execs
// that are on their way or dying.
const lastExecWait = 10 * time.Second

// watchExec records and publishes the exit of one exec.
func (s *Supervisor) watchExec(p *proc.Exec, t *tenant, child *reaper.Child) {
	e := child.Exit()
	p.RecordExit(e)
	s.awaitReply(p.ID())
	s.outbox.Put(s.exitEvent(p.ID(), e))
	s.settle(t)
}

// watchInit records and publishes the exit of the container's first process,
// after whatever else was in the container.
func (s *Supervisor) watchInit(p *proc.Init, child *reaper.Child) {
	e := child.Exit()
	was := p.RecordExit(e)
	others := s.lastDays()
	if p.SharesPids() {
		for _, t := range others {
			t.kill()
		}
	}
	p.KillRest(s.env.Context, was == proc.Paused || was == proc.Pausing)
	deadline := time.Now().Add(lastExecWait)
	for _, t := range others {
		waitFor(t.settled, time.Until(deadline))
	}
	s.awaitReply(p.ID())
	// Last, though it died first: by time it would pass, in a queue that the
	// daemon does not empty, the exits of the execs that died with it.
	s.outbox.PutLast(s.exitEvent(p.ID(), e))
	close(s.exitQueued)
}

// waitFor waits until c is closed, at most d.
func waitFor(c <-chan struct{}, d time.Duration) {
	select {
	case <-c:
		return
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
	}
}

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
