// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/wait"
)

// classes are the codes with which a call may be answered in a state. The contract
// leaves some open, because daemons treat them alike.
type classes []codes.Code

var (
	yes     = classes{codes.OK}
	refused = classes{precondition}
	unknown = classes{notFound}
	gone    = classes{notFound, precondition} // there is no process, or no container any more
	again   = classes{codes.OK, notFound}     // the same answer again, or that it is gone
)

// rpcState is a row of the conformance table: a state, and how every call is answered
// in it. Calls that change the state come last.
type rpcState struct {
	id, name string
	make     func(*harness.Case, *harness.Fixture)
	calls    []rpc
}

type rpc struct {
	name string
	call func(*harness.Fixture) error
	want classes
	v2   classes // what a v2 shim may answer; nil: it is not asked
}

// rpcChecks returns a check for each row.
func rpcChecks() []Check {
	var out []Check
	for _, s := range rpcStates {
		out = append(out, Check{ID: s.id, Name: "every call, " + s.name,
			Incident: "contract: what daemons rely on in each state",
			Asserts:  "each call that is sent answers in 10 s with the class that daemons expect",
			Run:      with(everyCall, s)})
	}
	return out
}

func everyCall(c *harness.Case, s rpcState) {
	// Old daemons also need a status in every OK response. That is checked by C02:
	// here it would hide everything else.
	b := faked(c, on("checkpoint", exits(0)))
	s.make(c, b)
	for _, r := range s.calls {
		want := r.want
		if c.V2 {
			want = r.v2
		}
		if want == nil {
			continue
		}
		err := c.Prompt(r.call(b))
		if !slices.Contains(want, code(err)) {
			c.Errorf("%s: %v (%v), want %v", r.name, code(err), err, want)
		}
	}
	lives(c, b)
}

func state(id, want string) rpc {
	return rpc{"State says " + want, func(b *harness.Fixture) error {
		id := cmp.Or(id, b.ID)
		s, err := b.Within(prompt).State(id)
		if err != nil {
			return err
		}
		if s.GetStatus().String() != want {
			return fmt.Errorf("State of %s: %v", id, s.GetStatus())
		}
		// containerd 1.7 takes an absent time for 1970, older ones for the zero
		// time: only an explicit one is right for all.
		if s.GetExitedAt() == nil {
			return fmt.Errorf("State of %s has no exited_at", id)
		}
		if zero := s.GetExitedAt().GetSeconds() == -62135596800; zero == (want == "STOPPED") {
			return fmt.Errorf("State of %s: exited at %v", id, s.GetExitedAt().AsTime())
		}
		if want != "STOPPED" && want != "CREATED" && s.GetPid() == 0 {
			return fmt.Errorf("State of %s: pid 0", id)
		}
		return nil
	}, yes, yes}
}

func ofInit(want classes, name string, f func(b *harness.Fixture, id string) error) rpc {
	return rpc{name, func(b *harness.Fixture) error { return f(b, b.ID) }, want, want}
}

func ofExec(want classes, name string, f func(b *harness.Fixture, id string) error) rpc {
	return rpc{name + " of the exec", func(b *harness.Fixture) error { return f(b, "e") }, want, want}
}

// absent is a call about a container that there is not. A v1 shim has one that was not
// created; a v2 shim has none of that name.
func absent(name string, f func(b *harness.Fixture, id string) error) rpc {
	r := ofInit(refused, name, f)
	r.v2 = gone
	return r
}

// ofV1 is a call that takes the container's id for that of an exec, which in v2 are names
// of two kinds.
func ofV1(r rpc) rpc {
	r.v2 = nil
	return r
}

var (
	start    = func(b *harness.Fixture, id string) error { _, err := b.Client.Start(id); return err }
	del      = func(b *harness.Fixture, _ string) error { _, err := b.Delete(); return err }
	delProc  = func(b *harness.Fixture, id string) error { _, err := b.DeleteProcess(id); return err }
	list     = func(b *harness.Fixture, id string) error { _, err := b.ListPids(id); return err }
	pause    = func(b *harness.Fixture, _ string) error { return b.Pause() }
	resume   = func(b *harness.Fixture, _ string) error { return b.Resume() }
	killUSR1 = func(b *harness.Fixture, id string) error { return b.Kill(id, 10, false) } // the helper ignores it
	kill9    = func(b *harness.Fixture, id string) error { return b.Kill(id, 9, false) }
	resize   = func(b *harness.Fixture, id string) error { return b.ResizePty(id, 80, 24) }
	closeIO  = func(b *harness.Fixture, id string) error { return b.CloseIO(id) }
	waits    = func(b *harness.Fixture, id string) error { _, err := b.Wait(id); return err }
	waitFor  = func(b *harness.Fixture, id string) error { _, err := b.Within(prompt).Wait(id); return err }
	info     = func(b *harness.Fixture, _ string) error { _, err := b.ShimInfo(); return err }
	stateOf  = func(b *harness.Fixture, id string) error { _, err := b.State(id); return err }
	execNew  = func(b *harness.Fixture, _ string) error { return b.Exec("new", harness.IO{}, "sleep") }
	execOld  = func(b *harness.Fixture, id string) error { return b.Exec(id, harness.IO{}, "sleep") }
	update   = func(b *harness.Fixture, _ string) error {
		return b.Update(&task.UpdateTaskRequest{Resources: noResources})
	}
	checkpoint = func(b *harness.Fixture, _ string) error {
		return b.Checkpoint(&task.CheckpointTaskRequest{Path: b.Path("image")})
	}
)

// blocks is a Wait that must not be answered while the process is alive.
func blocks(id string) rpc {
	return rpc{"Wait blocks", func(b *harness.Fixture) error {
		id := cmp.Or(id, b.ID)
		pending := b.BeginWait(id)
		if wait.For(100*time.Millisecond, "", pending.Done) == nil {
			return fmt.Errorf("Wait of a living process returned: %w", pending.Await(time.Second))
		}
		return nil
	}, yes, yes}
}

// noResources changes nothing.
var noResources = &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", Value: []byte("{}")}
