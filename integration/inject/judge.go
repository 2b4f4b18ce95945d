// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/sweep"
	"containerd-shim.v1/integration/harness/wait"
)

func drop[T any](_ T, err error) error { return err }

// telling are the classes that do not mislead. NotFound, AlreadyExists,
// InvalidArgument and FailedPrecondition do: by them clients decide what exists.
var telling = []codes.Code{codes.Unknown, codes.Internal, codes.ResourceExhausted, codes.Unavailable, codes.Aborted, codes.PermissionDenied}

// call makes a call as the daemon. It may fail once for each failure that was injected,
// with an error whose class does not mislead, and must not end the shim.
func (l *life) call(what string, f func() error) error {
	err := l.c.Prompt(f())
	if err == nil {
		return nil
	}
	l.c.Logf("%s: %v", what, err)
	if l.fault.Kill && len(l.in.Hits()) > 0 {
		runtime.Goexit() // cleanUp judges
	}
	if errors.Is(err, ttrpc.ErrClosed) || errors.Is(err, unix.ECONNREFUSED) {
		l.awaitDeath() // a shim that dies loses its connections first
	}
	if !l.alive() {
		l.dead("in " + what)
		return err
	}
	l.blows++
	<-time.After(l.fault.For) // a moment that has made it fail is over
	switch code := status.Code(err); {
	case len(l.in.Hits()) == 0:
		l.errorf("%s: %v, before anything was made to fail", what, err)
	case l.blows > max(1, l.fault.Times):
		l.errorf("%s: %v: error number %d for one failure", what, err, l.blows)
	case what == "Upgrade" && code == codes.InvalidArgument: // the program that was given cannot be used
	case !slices.Contains(telling, code) && !(code == codes.FailedPrecondition && l.noRuntime() && !strings.HasPrefix(what, "Kill")):
		l.errorf("%s: %v: class %v misleads", what, err, code)
	}
	return err
}

// noRuntime reports whether the failure means that the host has no runtime that can be
// executed. Its class is FailedPrecondition, except for Kill, where clients would take
// that for "has ended".
func (l *life) noRuntime() bool {
	return l.fault.Kind == "execve" && slices.Contains([]unix.Errno{unix.ENOENT, unix.EACCES, unix.ETXTBSY}, l.fault.Errno)
}

// again makes a call that must succeed when it is repeated.
func (l *life) again(what string, f func() error) {
	for range max(1, l.fault.Times) + 1 {
		if l.call(what, f) == nil {
			return
		}
	}
	l.errorf("%s fails even when it is repeated", what)
}

// removing is again for a call whose work may be done although it has failed. Then, and
// not at the first try, NotFound is success.
func (l *life) removing(what string, f func() error) {
	tries := 0
	l.again(what, func() error {
		tries++
		if err := f(); tries == 1 || status.Code(err) != codes.NotFound {
			return err
		}
		return nil
	})
}

// ran checks, after a call that has succeeded, that the runtime was run for it. A shim that
// drops the error of a runtime that could not be started answers all the same.
func (l *life) ran(verb string) {
	if l.b.Fake != nil && len(l.b.Fake.Calls(verb)) == 0 { // real runc, where the shim is killed, records nothing
		l.errorf("%s is answered as a success, and the runtime was never run for it", verb)
	}
}

// exited waits for the exit event of a process, and notes the status that it must have.
// gone judges all of them, since one that is sent again comes later.
func (l *life) exited(id string, want uint32) {
	l.await(soon, "the exit event of "+id, func() bool { return len(l.b.Daemon.ExitsOf(id)) > 0 })
	l.exits[id] = want
}

// wrongExits lists the exit events with another status than want has for the process, and
// those that are too many: for each failure the answer to one may be lost, and it comes again.
func wrongExits(events []fakedaemon.Event, want map[string]uint32, failures int) (wrong []string) {
	times := map[string]int{}
	for _, e := range events {
		if e.Exit == nil {
			continue
		}
		times[e.ID]++
		if status, ok := want[e.ID]; ok && e.Exit.GetExitStatus() != status {
			wrong = append(wrong, fmt.Sprintf("exit event %d of %s: status %d, want %d", times[e.ID], e.ID, e.Exit.GetExitStatus(), status))
		}
		if times[e.ID] > 1+failures {
			wrong = append(wrong, fmt.Sprintf("exit event %d of %s after %d failures", times[e.ID], e.ID, failures))
		}
	}
	return wrong
}

// errorf records that something is wrong. If the shim was killed, the life ends here
// instead, and cleanUp judges.
func (l *life) errorf(format string, args ...any) {
	if l.fault.Kill && len(l.in.Hits()) > 0 {
		runtime.Goexit()
	}
	l.c.Errorf(format, args...)
}

// fatalf is errorf, and ends the life.
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

// awaitDeath waits a moment for the end of a shim that may not be dying at all.
func (l *life) awaitDeath() { _ = wait.For(time.Second, "", func() bool { return !l.alive() }) }

func (l *life) alive() bool {
	_, dead := l.b.Shim.Exited()
	return !dead
}

// dead judges a shim that has ended. Only a kill may end it, or a failure before it has
// begun to serve; otherwise dead ends the life.
func (l *life) dead(when string) {
	l.awaitDeath()
	state, dead := l.b.Shim.Exited()
	switch {
	case !dead:
		l.fatalf("no answer %s", when)
	case strings.HasPrefix(when, "before"):
		l.c.Logf("the shim ended %s: %s", when, state) // the daemon sees that it did not start
	case when == "in Upgrade" && strings.HasPrefix(lastLine(l.b.Shim.Output()), "runtime: epollctl failed"):
		// The Go runtime of the new program cannot begin. The old one is gone, and
		// docs/shimverify.md says so.
		l.c.Logf("the shim ended %s: %s", when, state)
		runtime.Goexit()
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

// open returns which of the container's descriptors the shim has, as parts of their
// targets with their numbers.
func (l *life) open() map[string]int {
	census := procfs.Count(l.b.Shim.Pid)
	all := map[string]int{}
	for _, piece := range []string{"-in", "-out", "/out", "-err", "/err", "ptmx"} {
		if n := census.FdsLike(piece); n > 0 {
			all[piece] = n
		}
	}
	return all
}

// gone checks that the shim of a deleted container has nothing left of it, except for
// descriptors that it leaves in any case, and which exits the daemon was told of.
func (l *life) gone() {
	if !l.alive() {
		l.dead("at the end") // no later call would show it
	}
	left := func() string {
		var all []string
		census := procfs.Count(l.b.Shim.Pid)
		for _, p := range append(census.Living, census.Zombies...) {
			all = append(all, fmt.Sprintf("child %d %q", p.Pid, procfs.Command(p.Pid)))
		}
		for piece, n := range l.open() {
			if !slices.Contains(l.usual.Leaks, piece) {
				all = append(all, fmt.Sprintf("%d descriptors of %s", n, piece))
			}
		}
		for _, m := range procfs.MountsUnder(l.b.Bundle) {
			all = append(all, "mount "+m)
		}
		files, _ := filepath.Glob(filepath.Join(l.b.Bundle, "*")) // the pattern is right
		for _, f := range files {
			if l.fault.Kind == "unlink" {
				break // it may be the last call, whose failure nobody is told; the daemon removes the bundle
			}
			if name := filepath.Base(f); !slices.Contains([]string{"config.json", "rootfs", "address", "shim.pid", "log.json", "init.pid"}, name) {
				all = append(all, "file "+name)
			}
		}
		return strings.Join(all, ", ")
	}
	clean := func() bool { return left() == "" }
	if wait.For(soon, "", clean) != nil && l.fault.Kind == "" {
		l.usual.Leaks = slices.Sorted(maps.Keys(l.open()))
	}
	if !clean() {
		l.errorf("left behind: %s", left())
	}
	if _, err := l.b.Within(client.Patience).ShimInfo(); err != nil {
		l.errorf("ShimInfo at the end: %v", err)
	}
	for _, wrong := range wrongExits(l.b.Daemon.Events(), l.exits, len(l.in.Hits())) {
		l.errorf("%s", wrong)
	}
}

// cleanUp does what containerd does when a shim's connection ends, and checks that
// this is enough: no process of the container is alive, and the runtime does not know
// the container.
func (l *life) cleanUp() {
	b := l.b
	out, err := exec.Command(l.c.Runtime, "--root", b.Root, "delete", "--force", b.ID).CombinedOutput()
	l.c.Logf("runc delete --force: %v %s", err, out) // it fails if there is no container yet, or none any more
	lives := func() (all []string) {
		for _, p := range sweep.Owned(l.c.Dir) {
			all = append(all, fmt.Sprintf("%d %q", p.Pid, procfs.Command(p.Pid)))
		}
		return all
	}
	if wait.For(soon, "", func() bool { return len(lives()) == 0 }) != nil {
		l.c.Errorf("alive after the shim's death and runc delete --force: %v", lives())
	}
	if b.RuncHas() {
		l.c.Errorf("runc still has the container")
	}
}

// sweep kills every process that may still have the filter, before the injector stops
// answering it.
func (l *life) sweep() {
	for _, p := range sweep.Owned(l.c.Dir) {
		_ = p.Signal(unix.SIGKILL) // it may have ended by itself
	}
}
