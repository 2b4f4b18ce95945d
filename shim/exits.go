// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"time"

	"containerd-shim/guard"
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

// The watchers run on after a panic in one of their steps: the next steps are
// what others wait for, and an exit must not be lost.

// watchExec records and publishes the exit of one exec.
func (s *Supervisor) watchExec(p *proc.Exec, t *tenant, child *reaper.Child) {
	e := child.Exit()
	due := make(chan struct{})
	defer s.settle(t)
	defer close(due)
	guard.Do("record an exit", func() { p.RecordExit(e) })
	guard.Do("order the exits", func() { s.awaitEarlier(child, e) })
	s.outbox.PutHeld(s.exitEvent(p.ID(), e), due)
	s.placed(child)
	guard.Do("wait for the reply", func() { s.awaitReply(p.ID()) })
}

// watchInit records and publishes the exit of the container's first process,
// after whatever else was in the container.
func (s *Supervisor) watchInit(p *proc.Init, child *reaper.Child) {
	e := child.Exit()
	defer close(s.exitQueued)
	var was proc.Phase
	guard.Do("record the exit", func() { was = p.RecordExit(e) })
	others := s.lastDays()
	guard.Do("kill what is left", func() {
		if p.SharesPids() {
			for _, t := range others {
				t.kill()
			}
		}
		p.KillRest(s.env.Context, was == proc.Paused || was == proc.Pausing)
	})
	deadline := time.Now().Add(lastExecWait)
	for _, t := range others {
		waitFor(t.settled, time.Until(deadline))
	}
	guard.Do("wait for the reply", func() { s.awaitReply(p.ID()) })
	// Last, though it died first: by time it would pass, in a queue that the
	// daemon does not empty, the exits of the execs that died with it.
	s.outbox.PutLast(s.exitEvent(p.ID(), e))
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

// awaitEarlier returns when the exits of all that died before child are placed,
// so that the scheduler, which runs the watchers in any order, does not change
// the order of deaths.
func (s *Supervisor) awaitEarlier(child *reaper.Child, e reaper.Exit) {
	for _, placed := range s.diedBefore(child, e.At) {
		waitFor(placed, placeWait)
	}
}

// placed tells those that wait for it that child's exit is in the outbox.
func (s *Supervisor) placed(child *reaper.Child) {
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
