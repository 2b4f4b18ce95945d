// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"slices"
	"testing"
	"time"

	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc"
	"containerd-shim.v1/reaper"
)

// TestExitsAfterTheClockWasSet: after an exchange an exit waits no longer than ever,
// although the wall clock was set back by an hour since.
func TestExitsAfterTheClockWasSet(t *testing.T) {
	then := time.Now().Add(time.Hour).Round(0) // as from a file
	dead := func(id string, pid int) state.Process {
		return state.Process{
			ID: id, Phase: state.Stopped, Pid: pid, Exit: &state.Exit{At: then},
			Start: &state.Start{Stage: state.Replied, RepliedAt: then},
		}
	}
	held := []state.Held{{ID: "e", Pid: 3, At: then, Seq: 1, Taken: then}, {ID: containerID, Pid: 2, At: then, Seq: 2, Taken: then}}
	exec := []state.Exec{{Process: dead("e", 3)}}
	waiting := state.Process{ID: containerID, Phase: state.Created} // a checkpoint
	asked := state.Exec{Process: dead("e", 3)}
	asked.Start.Stage, asked.Start.AskedAt = state.Asked, then
	for name, c := range map[string]struct {
		st   state.Shim
		want []string
	}{
		"replied":          {state.Shim{Container: &state.Container{Process: waiting}, Execs: exec, Held: held[:1], Seq: 2}, []string{"e"}},
		"asked":            {state.Shim{Container: &state.Container{Process: waiting}, Execs: []state.Exec{asked}, Held: held[:1], Seq: 2}, []string{"e"}},
		"of the container": {state.Shim{Container: &state.Container{Process: dead(containerID, 2)}, Execs: exec, Held: held, Seq: 2}, []string{"e", containerID}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			d := &daemon{}
			outbox := NewOutbox(d)
			sup := NewSupervisor(ctx, &proc.Env{
				Bundle: t.TempDir(), Reaper: testReaper, Monitor: reaper.NewMonitor(testReaper, reaper.DefaultLimits()),
				Limits: proc.DefaultLimits(), NewRuntime: func(string) proc.Runtime { return newFakeRuntime(t) },
			}, outbox, Limits{Reply: 100 * time.Millisecond, Asked: 200 * time.Millisecond, Doubt: 100 * time.Millisecond})
			sup.Adopt(ctx, &c.st)
			sub := testReaper.Subscribe()
			ended := make(chan struct{}, 2)
			go func() { outbox.Run(ctx); ended <- struct{}{} }()
			go func() { sup.Run(sub); sub.Close(); ended <- struct{}{} }()
			eventually(t, "the exits are sent", func() bool { return slices.Equal(d.ids(), c.want) })
			cancel()
			receive(t, "end of the outbox or of the exits", ended)
			receive(t, "end of the other", ended)
		})
	}
}
