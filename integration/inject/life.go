// SPDX-License-Identifier: Apache-2.0

// Package inject makes every system call of a shim fail once, one failure a run,
// while a container lives its whole life, and judges what comes of it: the call
// that met the failure says so in a class that clients understand, or nothing is
// to be seen at all; what failed works when it is asked again; every exit reaches
// the daemon with its status; nothing is left behind.
package inject

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/faults"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/sweep"
	"containerd-shim.v1/integration/harness/wait"
)

// soon bounds what has to happen by itself: an exit's event, the end of a stream.
const soon = 15 * time.Second

// Limit is how long one life may take.
const Limit = 90 * time.Second

// life is a container's life under one fault.
type life struct {
	c     *harness.Case
	b     *harness.Fixture
	in    *faults.Injector
	fault faults.Fault
	blows int // how often a call of the daemon has failed
}

// Live runs a life under the injector's fault. The zero Fault only counts.
func Live(c *harness.Case, in *faults.Injector) {
	l := &life{c: c, in: in, fault: in.Fault}
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
	o := harness.Options{Faults: in}
	if !in.Fault.Kill {
		o.Fake, o.Bare = []fakeruntime.Rule{}, true // the calls of real runc would only take their time
	}
	l.b = c.Fixture(o)
	l.run()
}

// run is the life. A failure ends it where a daemon would give the container up:
// what could not be created or started is deleted.
func (l *life) run() {
	b := l.b
	if _, err := b.ShimInfo(); err != nil {
		if l.alive() && len(l.in.Hits()) > 0 && slices.Contains([]string{"accept", "epoll_ctl"}, l.fault.Kind) {
			l.c.Logf("the daemon's connection was lost, which means to it that the shim has not started: %v", err)
			return
		}
		l.dead("before its first call")
		return
	}
	out := b.Stream("out").Read()
	create := func() error { return b.CreateWith(b.CreateRequest(harness.IO{Stdout: out.Path})) }
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
		l.exec("terminal", true)
		l.signal()
		l.verbs()
	}
	l.again("Kill", func() error { return found(b.Kill(b.ID, uint32(unix.SIGKILL), false)) })
	l.exited(b.ID, 137)
	if err := wait.Await(soon); err != nil || wait.Reply.GetExitStatus() != 137 {
		l.errorf("Wait of init: status %d, %v", wait.Reply.GetExitStatus(), err)
	}
	l.again("Delete", func() error { return found(drop(b.Delete())) })
	l.await(soon, "init's output has ended", out.Ended)
	l.gone()
}

// wait begins a Wait of init on a connection of its own; one that the failure
// breaks is made again.
func (l *life) wait() *client.Waiting {
	w, err := client.BeginWait(l.b.Shim.Address, l.b.ID)
	if err != nil && len(l.in.Hits()) > 0 && l.blows < max(1, l.fault.Times) {
		l.blows++
		w, err = client.BeginWait(l.b.Shim.Address, l.b.ID)
	}
	l.must(err, "Wait of init")
	return w
}

// exec adds, runs and deletes a process with streams. What fails is tried again,
// with new streams, as a client does it.
func (l *life) exec(id string, terminal bool) {
	b := l.b
	var out *harness.Stream
	l.started(id, func(try int) error {
		name := fmt.Sprint(id, try)
		out = b.Stream(name + "-out").Read()
		in := b.Stream(name + "-in").Write("") // a terminal would echo what is written
		return b.Exec(id, harness.IO{Stdin: in.Path, Stdout: out.Path, Terminal: terminal}, "print:5000", "exit:7")
	})
	w, err := b.Within(soon).Wait(id)
	l.must(err, "Wait of "+id)
	if w.GetExitStatus() != 7 {
		l.errorf("Wait of %s: status %d, want 7", id, w.GetExitStatus())
	}
	l.exited(id, 7)
	l.again("DeleteProcess", func() error { return found(drop(b.DeleteProcess(id))) })
	l.await(soon, "the output of "+id+" has ended", out.Ended)
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
		l.again("DeleteProcess after a failed Start", func() error { return found(drop(l.b.DeleteProcess(id))) })
	}
	l.fatalf("exec %s cannot be started", id)
}

// mayLoseOutput reports whether the failure was of a byte's own way.
func (l *life) mayLoseOutput() bool {
	return l.fault.Errno == unix.EIO && l.fault.Kind == "read tty"
}

// signal kills an exec with SIGTERM.
func (l *life) signal() {
	b := l.b
	l.started("victim", func(int) error { return b.Exec("victim", harness.IO{}, "sleep") })
	l.again("Kill of an exec", func() error { return found(b.Kill("victim", uint32(unix.SIGTERM), false)) })
	l.exited("victim", 128+15)
	l.again("DeleteProcess", func() error { return found(drop(b.DeleteProcess("victim"))) })
}

// verbs are the calls that change nothing here.
func (l *life) verbs() {
	b := l.b
	l.again("ListPids", func() error { return drop(b.ListPids(b.ID)) })
	l.again("Pause", func() error { return b.Pause() })
	l.again("Resume", func() error { return b.Resume() })
	l.again("Update", func() error {
		return b.Update(&task.UpdateTaskRequest{Resources: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", Value: []byte(`{"cpu":{"shares":512}}`)}})
	})
	if b.Fake != nil {
		l.again("Checkpoint", func() error {
			return b.Checkpoint(&task.CheckpointTaskRequest{Path: b.Path("checkpoint")})
		})
	}
	if _, err := b.Shim.Stacks(soon); err != nil && l.alive() {
		if _, err = b.Shim.Stacks(soon); err != nil {
			l.errorf("SIGUSR1, twice: %v", err)
		}
	}
}

// found takes the class NotFound for success, where a call was asked again and
// the first may have done its work.
func found(err error) error {
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

func drop[T any](_ T, err error) error { return err }

// telling are the classes that do not mislead: not NotFound, AlreadyExists,
// InvalidArgument or FailedPrecondition, by which clients decide what is there.
var telling = []codes.Code{codes.Unknown, codes.Internal, codes.ResourceExhausted, codes.Unavailable, codes.Aborted, codes.PermissionDenied}

// call makes a call of the daemon, which may fail once for each failure that was
// injected, in a class that does not mislead, and does not end the shim.
func (l *life) call(what string, f func() error) error {
	err := l.c.Prompt(f())
	if err == nil {
		return nil
	}
	l.c.Logf("%s: %v", what, err)
	if l.fault.Kill && len(l.in.Hits()) > 0 {
		runtime.Goexit() // cleanUp judges
	}
	if !l.alive() {
		l.dead("in " + what)
		return err
	}
	l.blows++
	switch code := status.Code(err); {
	case len(l.in.Hits()) == 0:
		l.errorf("%s: %v, before anything was made to fail", what, err)
	case l.blows > max(1, l.fault.Times):
		l.errorf("%s: %v: the %d. error for one failure", what, err, l.blows)
	case !slices.Contains(telling, code) && !(code == codes.FailedPrecondition && l.noRuntime() && !strings.HasPrefix(what, "Kill")):
		l.errorf("%s: %v: class %v misleads", what, err, code)
	}
	return err
}

// noRuntime reports whether the failure says that the host has no runtime that
// could be executed. FailedPrecondition is its class, but of Kill, for which
// clients take that as "has ended".
func (l *life) noRuntime() bool {
	return l.fault.Kind == "execve" && slices.Contains([]unix.Errno{unix.ENOENT, unix.EACCES, unix.ETXTBSY}, l.fault.Errno)
}

// again makes a call that must succeed when it is asked again.
func (l *life) again(what string, f func() error) {
	for range max(1, l.fault.Times) + 1 {
		if l.call(what, f) == nil {
			return
		}
	}
	l.errorf("%s fails for good", what)
}

// exited waits for the exit event of a process. One more of the same may come,
// where an answer of the daemon's was lost.
func (l *life) exited(id string, want uint32) {
	exits := func() []fakedaemon.Event { return l.b.Daemon.ExitsOf(id) }
	l.await(soon, "the exit event of "+id, func() bool { return len(exits()) > 0 })
	if e := exits()[0]; e.Exit.GetExitStatus() != want {
		l.errorf("exit of %s: status %d, want %d", id, e.Exit.GetExitStatus(), want)
	}
	if n := len(exits()); n > 2 {
		l.errorf("%d exit events of %s", n, id)
	}
}

// errorf records that the shim is not as it should be. The life of a shim that
// was killed ends at the first thing that is not: cleanUp judges.
func (l *life) errorf(format string, args ...any) {
	if l.fault.Kill && len(l.in.Hits()) > 0 {
		runtime.Goexit()
	}
	l.c.Errorf(format, args...)
}

// fatalf is errorf and ends the life.
func (l *life) fatalf(format string, args ...any) {
	l.errorf(format, args...)
	runtime.Goexit()
}

func (l *life) must(err error, what string) {
	if err != nil {
		l.fatalf("%s: %v", what, err)
	}
}

func (l *life) await(d time.Duration, what string, cond func() bool) {
	if err := wait.For(d, what, func() bool { return cond() || l.fault.Kill && !l.alive() }); err != nil || !cond() {
		l.fatalf("%s: %v", what, err)
	}
}

func (l *life) alive() bool {
	_, dead := l.b.Shim.Exited()
	return !dead
}

// dead judges a shim that has ended, and ends the life: nothing but a kill may
// end it, or a failure before it has begun to serve.
func (l *life) dead(when string) {
	_ = wait.For(time.Second, "", func() bool { return !l.alive() }) // its connections end first
	state, dead := l.b.Shim.Exited()
	switch {
	case !dead:
		l.fatalf("no answer %s", when)
	case strings.HasPrefix(when, "before"):
		l.c.Logf("the shim ended %s: %s", when, state) // its start has failed: the daemon sees it
	default:
		l.fatalf("the shim ended %s: %s: %s", when, state, lastLine(l.b.Shim.Output()))
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for _, l := range lines {
		if strings.HasPrefix(l, "fatal error:") || strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "runtime:") {
			return l
		}
	}
	return lines[len(lines)-1]
}

// gone checks that a shim without a container holds nothing of it.
func (l *life) gone() {
	if !l.alive() {
		l.dead("at the end") // no call would tell
	}
	left := func() string {
		var all []string
		census := procfs.Count(l.b.Shim.Pid)
		for _, p := range append(census.Living, census.Zombies...) {
			all = append(all, fmt.Sprintf("child %d %q", p.Pid, procfs.Command(p.Pid)))
		}
		for _, piece := range []string{"-in", "-out", "/out", "ptmx"} {
			if n := census.FdsLike(piece); n > 0 {
				all = append(all, fmt.Sprintf("%d descriptors of %s", n, piece))
			}
		}
		for _, m := range procfs.MountsUnder(l.b.Bundle) {
			all = append(all, "mount "+m)
		}
		files, _ := filepath.Glob(filepath.Join(l.b.Bundle, "*")) // the pattern is right
		for _, f := range files {
			if l.fault.Kind == "unlink" {
				break // it may be the last one, of which nobody is told; the daemon removes the bundle
			}
			if name := filepath.Base(f); !slices.Contains([]string{"config.json", "rootfs", "address", "shim.pid", "log.json", "init.pid"}, name) {
				all = append(all, "file "+name)
			}
		}
		return strings.Join(all, ", ")
	}
	if wait.For(soon, "", func() bool { return left() == "" }) != nil {
		l.errorf("left behind: %s", left())
	}
	if _, err := l.b.Within(client.Patience).ShimInfo(); err != nil {
		l.errorf("ShimInfo at the end: %v", err)
	}
}

// cleanUp does what containerd does when a shim's connection ends, and checks
// that this is all that it takes: no process of the container lives, and the
// runtime knows of none.
func (l *life) cleanUp() {
	b := l.b
	out, err := exec.Command(l.c.Runtime, "--root", b.Root, "delete", "--force", b.ID).CombinedOutput()
	l.c.Logf("runc delete --force: %v %s", err, out) // there may be none yet, or none any more
	lives := func() (all []string) {
		for _, p := range procfs.All() {
			if l.owns(p.Pid) && !p.Dead() {
				all = append(all, fmt.Sprintf("%d %q", p.Pid, procfs.Command(p.Pid)))
			}
		}
		return all
	}
	if wait.For(soon, "", func() bool { return len(lives()) == 0 }) != nil {
		l.c.Errorf("after the shim's death and runc delete --force live %v", lives())
	}
	if b.RuncHas() {
		l.c.Errorf("runc still has the container")
	}
}

// owns reports whether a process belongs to the case.
func (l *life) owns(pid int) bool {
	v, ok := procfs.Env(pid, sweep.Mark)
	return ok && v == l.c.Dir
}

// sweep ends what the filter may still stop, before nobody answers it any more.
func (l *life) sweep() {
	for _, p := range procfs.All() {
		if l.owns(p.Pid) {
			_ = unix.Kill(p.Pid, unix.SIGKILL) // it may have ended by itself
		}
	}
}
