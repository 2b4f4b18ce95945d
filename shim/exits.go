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
	due := make(chan struct{})
	s.place(child, e, func() { s.outbox.PutHeld(s.exitEvent(p.ID(), e), due) })
	s.awaitReply(p.ID())
	close(due)
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

// placeWait bounds how long one watcher waits for another to run.
const placeWait = time.Second

// watch notes that child's exit will be placed. It is called before the
// child's watcher is started.
func (s *Supervisor) watch(child *reaper.Child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unplaced[child] = make(chan struct{})
}

// place calls put when the exits of all that died before child are placed, so
// that the scheduler, which runs the watchers in any order, does not change
// the order of deaths.
func (s *Supervisor) place(child *reaper.Child, e reaper.Exit, put func()) {
	for _, placed := range s.diedBefore(child, e.At) {
		waitFor(placed, placeWait)
	}
	put()
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.unplaced[child])
	delete(s.unplaced, child)
}

func (s *Supervisor) diedBefore(child *reaper.Child, at time.Time) (placed []<-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, c := range s.unplaced {
		select {
		case <-other.Done():
			if other != child && other.Exit().At.Before(at) {
				placed = append(placed, c)
			}
		default:
		}
	}
	return placed
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
