// SPDX-License-Identifier: Apache-2.0

// Package inject makes every system call of a shim fail, one in each run, while a
// container lives its whole life, and judges the result: either the daemon's call that
// met the failure returns an error whose class does not mislead clients, or nothing is
// to be seen of it; a call that has failed works when it is repeated; every exit
// reaches the daemon with its status; and nothing is left behind.
package inject

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/containerd/api/types"
	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/faults"
)

// soon bounds the wait for what must happen by itself: an exit's event, the end of a
// stream.
const soon = 15 * time.Second

// Limit bounds one life.
const Limit = 90 * time.Second

// life is the life of a container while one system call of its shim fails.
type life struct {
	c     *harness.Case
	b     *harness.Fixture
	in    *faults.Injector
	fault faults.Fault
	usual *Usual
	blows int               // how many calls of the daemon have failed
	exits map[string]uint32 // the status of each process whose exit event has come
}

// live runs a life under the injector's fault, and records in c what is wrong. Without
// a kind of call the injector only counts, and what leaks is noted in usual.
func live(c *harness.Case, in *faults.Injector, usual *Usual) {
	l := &life{c: c, in: in, fault: in.Fault, usual: usual, exits: map[string]uint32{}}
	defer func() {
		if l.b != nil {
			l.b.Shim.Kill()
			<-l.b.Shim.Done
			if in.Fault.Kill {
				l.cleanUp()
			}
		}
		l.sweep()
		c.Need(in.Close(), "serve the filter")
	}()
	o := harness.Options{Faults: in, Container: harness.Container{NoRootfs: true, Edit: func(s *specs.Spec) { s.Root.Path = "rootfs" }}}
	if !in.Fault.Kill {
		o.Fake, o.Bare = []fakeruntime.Rule{}, true // real runc would only make it slower
	}
	l.b = c.Fixture(o)
	c.Need(os.Mkdir(filepath.Join(l.b.Bundle, "rootfs"), 0o711), "make directory")
	l.run()
}

// run is the life. A failure ends it where a daemon would give up the container: one
// that could not be created or started is deleted.
func (l *life) run() {
	b := l.b
	if _, err := b.ShimInfo(); err != nil {
		if l.alive() && len(l.in.Hits()) > 0 && slices.Contains([]string{"accept", "epoll_ctl"}, l.fault.Kind) {
			l.c.Logf("the connection was lost; for a daemon that means that the shim has not started: %v", err)
			return
		}
		l.dead("before its first call")
		return
	}
	out, errs := b.Stream("out").Read(), b.Stream("err").Read() // upstream's shims cannot do without the latter
	create := func() error {
		r := b.CreateRequest(harness.IO{Stdout: out.Path, Stderr: errs.Path})
		r.Rootfs = []*types.Mount{{Type: "bind", Source: b.Rootfs, Options: []string{"rbind", "rw"}}}
		return b.CreateWith(r)
	}
	if l.call("Create", create) != nil {
		if code := status.Code(l.c.Prompt(drop(b.Delete()))); code != codes.NotFound && code != codes.FailedPrecondition {
			l.errorf("Delete after a failed Create: %v", code) // there is no container
		}
		l.gone()
		return
	}
	wait := l.wait()
	defer wait.Close()
	l.again("State", func() error { return drop(b.State(b.ID)) })
	if l.call("Start", func() error { return drop(b.Client.Start(b.ID)) }) == nil {
		l.exec("pipes", false)
		l.exchange()
		l.exec("terminal", true)
		l.signal()
		l.verbs()
	}
	l.removing("Kill", func() error { return b.Kill(b.ID, uint32(unix.SIGKILL), false) })
	l.exited(b.ID, 137)
	if err := wait.Await(soon); err != nil || wait.Reply.GetExitStatus() != 137 {
		l.errorf("Wait of init: status %d, %v", wait.Reply.GetExitStatus(), err)
	}
	l.removing("Delete", func() error { return drop(b.Delete()) })
	l.ran("delete")
	l.await(soon, "init's output has ended", func() bool { return out.Ended() && errs.Ended() })
	l.gone()
}

// wait begins a Wait of init on a connection of its own. If a failure breaks that, it is
// made again.
func (l *life) wait() *client.Waiting {
	w, err := client.BeginWait(l.b.Shim.Address, l.b.ID, client.V1{})
	for err != nil && len(l.in.Hits()) > 0 && l.blows < max(1, l.fault.Times) {
		l.blows++
		<-time.After(l.fault.For)
		w, err = client.BeginWait(l.b.Shim.Address, l.b.ID, client.V1{})
	}
	l.must(err, "Wait of init")
	return w
}

// exec adds, runs and deletes a process with streams. A failed step is repeated, with
// new streams, as a client would.
func (l *life) exec(id string, terminal bool) {
	b := l.b
	var in, out, errs *harness.Stream
	l.started(id, func(try int) error {
		name := fmt.Sprint(id, try)
		out = b.Stream(name + "-out").Read()
		in = b.Stream(name + "-in").Write("") // a terminal would echo what is written
		io := harness.IO{Stdin: in.Path, Stdout: out.Path, Terminal: terminal}
		if !terminal {
			errs = b.Stream(name + "-err").Read()
			io.Stderr = errs.Path
		}
		return b.Exec(id, io, "print:5000", "exit:7")
	})
	w, err := b.Within(soon).Wait(id)
	l.must(err, "Wait of "+id)
	if w.GetExitStatus() != 7 {
		l.errorf("Wait of %s: status %d, want 7", id, w.GetExitStatus())
	}
	l.exited(id, 7)
	in.Close() // as clients do; upstream's shims wait for it
	l.removing("DeleteProcess", func() error { return drop(b.DeleteProcess(id)) })
	l.await(soon, "the output of "+id+" has ended", func() bool { return out.Ended() && (terminal || errs.Ended()) })
	if err := out.Matches(5000); err != nil && !l.mayLoseOutput() {
		l.errorf("output of %s: %v", id, err)
	}
}

// started adds an exec and starts it. If the start fails, the exec is deleted,
// and the same id is used again.
func (l *life) started(id string, add func(try int) error) {
	for try := range max(1, l.fault.Times) + 1 {
		if l.call("Exec", func() error { return add(try) }) != nil {
			continue
		}
		if l.call("Start of an exec", func() error { return drop(l.b.Client.Start(id)) }) == nil {
			return
		}
		l.removing("DeleteProcess after a failed Start", func() error { return drop(l.b.DeleteProcess(id)) })
	}
	l.fatalf("exec %s cannot be started", id)
}

// exchange has the shim execute its program anew in its place, if it knows how to. That
// may be refused for the failure, and has changed nothing then.
func (l *life) exchange() {
	l.again("Upgrade", func() error {
		conn, err := net.Dial("unix", l.b.Shim.Address)
		if err != nil {
			return err
		}
		c := ttrpc.NewClient(conn)
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		var version wrapperspb.StringValue
		err = c.Call(ctx, "containerd.shim.inplace.v1", "Upgrade", wrapperspb.String(l.c.Shim), &version)
		if status.Code(err) == codes.Unimplemented {
			return nil // another's shim
		}
		return err
	})
}

// mayLoseOutput reports whether the failure is one at which output is lost in any case:
// an EIO of a terminal means that it is closed.
func (l *life) mayLoseOutput() bool {
	return l.fault.Errno == unix.EIO && l.fault.Kind == "read tty"
}

// signal kills an exec, with SIGKILL: any other signal can get lost while runc's init, a
// Go program with handlers, executes the process.
func (l *life) signal() {
	b := l.b
	l.started("victim", func(int) error { return b.Exec("victim", harness.IO{}, "sleep") })
	l.removing("Kill of an exec", func() error { return b.Kill("victim", uint32(unix.SIGKILL), false) })
	l.exited("victim", 128+9)
	l.removing("DeleteProcess", func() error { return drop(b.DeleteProcess("victim")) })
}

// paused has the fake runtime answer by these rules. It has nothing to pause, and would say
// that the container runs: a shim rightly takes a Resume for done then whose runtime could
// not be started.
func (l *life) paused(rules ...fakeruntime.Rule) {
	if l.b.Fake != nil {
		l.c.Need(l.b.Fake.Play(rules...), "write the runtime's script")
	}
}

// verbs makes the calls that leave the container as it is.
func (l *life) verbs() {
	b := l.b
	l.again("ListPids", func() error { return drop(b.ListPids(b.ID)) })
	l.again("Pause", b.Pause)
	l.ran("pause")
	l.paused(fakeruntime.Rule{Verb: "state", Steps: []fakeruntime.Step{{Op: fakeruntime.Print, Text: fmt.Sprintf(`{"id":%q,"pid":%d,"status":"paused"}`, b.ID, b.InitPid)}}})
	l.again("Resume", b.Resume)
	l.paused()
	l.ran("resume")
	l.again("Update", func() error {
		return b.Update(&task.UpdateTaskRequest{Resources: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", Value: []byte(`{"cpu":{"shares":512}}`)}})
	})
	l.ran("update")
	if b.Fake != nil {
		l.again("Checkpoint", func() error {
			// Without options upstream's shims panic.
			return b.Checkpoint(&task.CheckpointTaskRequest{Path: b.Path("checkpoint"), Options: &anypb.Any{TypeUrl: "containerd.linux.runc.CheckpointOptions"}})
		})
		l.ran("checkpoint")
	}
	if _, err := b.Shim.Stacks(soon); err != nil && l.alive() {
		if _, err = b.Shim.Stacks(soon); err != nil {
			l.errorf("SIGUSR1, twice: %v", err)
		}
	}
}
