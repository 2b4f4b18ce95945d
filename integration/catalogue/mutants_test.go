// SPDX-License-Identifier: Apache-2.0

package catalogue_test

import (
	"slices"
	"strings"
	"testing"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/suite"
)

// mutants are variants of this project's shim with one thing broken, for checks that no
// known release fails, or not by all that they assert: each check of ids must fail on its
// mutant, with a message that contains says, or what is before or behind its |, which shows
// that it is able to fail. The old text must be in the file exactly once.
var mutants = []struct{ ids, file, old, broken, says string }{
	{"B12", "shim/verbs.go", "\t\tif err := p.Delete(ctx); err != nil {\n", "\t\ts.mu.Lock()\n\t\terr := p.Delete(ctx)\n" +
		"\t\tslow, cancel := context.WithTimeout(s.ctx, 4e9)\n\t\t<-slow.Done()\n\t\tcancel()\n\t\ts.mu.Unlock()\n\t\tif err != nil {\n", "State"},
	{"B17", "proc/exec.go", "\tp.newAttempt()\n", "\tif p.id[0] == 'n' && p.id[len(p.id)-1]%2 == 1 {\n" +
		"\t\treturn fmt.Errorf(\"claim: %w\", reaper.ErrClaimed)\n\t}\n\tp.newAttempt()\n", "already claimed"},
	{"B17", "shim/supervisor.go", "{ outbox.Put(s.exitEvent(id, e)) }",
		"{\n\t\toutbox.Put(s.exitEvent(id, e))\n\t\ttime.AfterFunc(200*time.Millisecond, func() { outbox.Put(s.exitEvent(id, e)) })\n\t}", "2 exits"},
	{"B19", "reaper/reaper.go", "r.kept.add(exit)", "_ = exit", "Start: "},
	{"B19b", "proc/init.go", "\t\treturn p.apply(DidStart)\n\t}\n", "\t\tif p.Snapshot().Phase == Stopped {\n\t\t\treturn errFinished()\n\t\t}\n" +
		"\t\treturn p.apply(DidStart)\n\t}\n", "Start: "},
	{"B20b", "shim/exits.go", "!hurry && !x.aloneLocked() || ", "", "before runc exec has returned"},
	{"B26c", "proc/stdio/streams.go", "os.OpenFile(os.DevNull,", `os.OpenFile("/dev/zero",`, "want /dev/null"},
	{"B31b", "cmd/containerd-shim/signals.go", "\t\t\t\t\tlog.Load().writeStacks(text)\n", "\t\t\t\t\t_ = text\n", "SIGUSR1 with nowhere to write"},
	{"B32c", "shim/service.go", "\tp.CloseStdin()\n", "\tp.CloseStdin()\n\tif p.Snapshot().Stdio.Stdin == \"\" {\n\t\treturn nil, os.ErrClosed\n\t}\n", "CloseIO of a process without stdin"},
	{"B33c", "proc/stdio/console.go", "Row: size.Height, Col: size.Width}", "Row: size.Width, Col: size.Height}", `want "45 123"`},
	{"B41", "shim/service.go", "s.sup.Start(ctx, r.ID)\n", "s.sup.Start(ctx, r.ID)\n\terr = nil\n", "succeeded although its runc failed"},
	{"B42b", "proc/process.go", "p.endAttemptLocked(Exit{Status: reaper.UnknownStatus})", "_ = reaper.UnknownStatus", "Wait of e: no answer"},
	{"B50 B50c", "proc/delete.go", "\tif !p.sharedPids {\n", "\tif true {\n", "the rest of the container"},
	{"B50d", "shim/supervisor.go", "\t\twas := p.RecordExit(e)\n", "\t\tif unix.Access(p.Bundle()+\"/config.json\", 0) != nil {\n\t\t\t<-s.ctx.Done()\n\t\t}\n" +
		"\t\twas := p.RecordExit(e)\n", "the exit event"},
	{"B51 B51b B51c", "proc/process.go", "\t_ = p.applyLocked(DidExit)", "\tif was != Paused && was != Pausing {\n\t\t_ = p.applyLocked(DidExit)\n\t}", "want STOPPED"},
	{"B54", "proc/stdio/logger.go", "\t\tl.abort()\n", "\t\tl.abort()\n\t\t<-l.child.Done()\n\t\tos.Exit(2)\n", "ShimInfo"},
	{"B55", "proc/init.go", "\t\t// What has ended the runtime", "\t\tunix.Exit(2)\n\t\t// What has ended the runtime", "ShimInfo"},
	{"B58", "reaper/monitor.go", "env = dropVars(os.Environ(), m.dropEnv)", "env = os.Environ()", "dial unixgram"}, // runc itself then fails
	{"B59b", "cmd/containerd-shim/flags.go", "\t\tif !ok {\n\t\t\tcontinue\n", "\t\tif name == \"criu\" {\n\t\t\tbad = append(bad, errors.New(\"flag -criu\"))\n\t\t}\n" +
		"\t\tif !ok {\n\t\t\tcontinue\n", "ShimInfo|connection refused"}, // it ends at its first call, or before that
	{"B60", "shim/conn.go", "c, creds, err := h.sameUser.Handshake(ctx, c)", "creds, err := any(nil), error(nil)", "uid 65534 open"},
	{"B61", "proc/pidfile.go", "const most = 200", "const most = 64", "longer than 64"},
	{"B61b", "cmd/containerd-shim/socket.go", "return nil, fmt.Errorf(\"socket %q: longer than %d bytes\", socket, maxSocketPath)", "path = path[:maxSocketPath]", "201 bytes"},
	{"B62 B62b", "cmd/containerd-shim/log.go", "\tvar st unix.Stat_t\n", "\t_ = os.Chmod(path, 0o777)\n\tvar st unix.Stat_t\n", "shim.stdout.log"},
	{"B64", "reaper/forker.go", "\t\tunblock()\n\t\tfn()\n\t}", "\t\tunblock()\n\t\tshort(fn)\n\t}\n}\n\n" +
		"// short forks on a thread that ends.\nfunc short(fn func()) {\n" +
		"\tdone := make(chan struct{})\n\tgo func() { runtime.LockOSThread(); defer close(done); fn() }()\n\t<-done", "exit status 137"},
	{"B64b", "proc/runtime.go", "c.Pdeathsig = unix.SIGKILL", "c.Pdeathsig = unix.Signal(0)", "runc (pid"},
	{"B65", "proc/stdio/sink.go", "\ts.w = w\n", "\ts.w = w\n\ts.closeKeepalive()\n", "container"},
	{"B66", "proc/stdio/sink.go", "\ts.w = w\n", "\ts.w = w\n\ts.closeKeepalive()\n", "did not wait for a reader"},
	{"C06", "proc/stdio/streams.go", "os.OpenFile(os.DevNull,", `os.OpenFile("/proc/self/fd/1",`, "end of the shim as the daemon sees it"},
	{"C17", "cmd/containerd-shim/socket.go", "\t_ = f.Close()", "\tif u, ok := l.(*net.UnixListener); ok {\n\t\tu.SetUnlinkOnClose(true)\n\t}\n\t_ = f.Close()", "the socket: "},
	{"C30", "proc/runtime.go", `"--log-format", "json"`, `"--log-format", "text"`, "want --log-format json"},
	{"F01b", "proc/init.go", "return errors.Join(err, p.rootfs.detach())", "return err", "still mounted"},
	{"F02", "shim/verbs.go", "s.awaitStart(ctx, p, false)", "ctx.Err()", "Kill: "},
	{"F04", "proc/runtime.go", "\tif err == nil {\n\t\tdefer remove(log)\n", "\tif err != nil {\n\t\treturn nil, err\n\t}\n\tif err == nil {\n\t\tdefer remove(log)\n", "Delete: "},
	{"F13 F13b", "proc/stdio/input.go", "\tif fifo {\n", "\tif !fifo {\n\t\treturn nil, errclass.Invalidf(\"%s is no FIFO\", path)\n\t}\n\tif fifo {\n", "is no FIFO"},
	{"F20", "shim/exits.go", " || later(x.last.due(x.limits, now))", "", "the exit of c"}, // the container's; those of execs are held
	{"F23 F23b", "proc/stdio/output.go", "o.words = o.pending\n", "o.words = o.pending\n\t\t\t_, _ = o.dst.Write(o.pending)\n", "which is the runtime's"},
	{"F25", "proc/stdio/output.go", "ord.exited.Add(o.limits.Stubborn)", "ord.exited.Add(time.Hour)", "the output ends"},
}

// unbroken says of checks why they have no mutant although no known release fails them.
var unbroken = map[string]string{
	"C25": "ttrpc answers by itself: the shim has no code that could be wrong",
}

func TestMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.ids, func(t *testing.T) {
			checks := checksOf(m.ids)
			if !slices.ContainsFunc(checks, func(c catalogue.Check) bool { return c.Load != catalogue.Light }) {
				t.Parallel()
			}
			shim := suite.Mutant(t, m.file, m.old, m.broken)
			for _, check := range checks {
				r := suite.Result(t, shim, "mutant-"+check.ID, check.Limit, check.Run)
				for tries := 1; r.Verdict == harness.Pass && tries < 5; tries++ { // a race that real runc decides, as B19b's
					r = suite.Result(t, shim, "mutant-"+check.ID, check.Limit, check.Run)
				}
				text := strings.Join(r.Messages, "\n")
				said := func(words string) bool { return words != "" && strings.Contains(text, words) }
				if r.Verdict != harness.Fail || !slices.ContainsFunc(strings.Split(m.says, "|"), said) {
					t.Errorf("%s is %s on a shim without %q, want a failure with %q: %s", check, r.Verdict, m.old, m.says, text)
				}
			}
		})
	}
}

// checksOf returns the checks with these ids, which are separated by spaces.
func checksOf(ids string) (checks []catalogue.Check) {
	all := catalogue.All()
	for _, id := range strings.Fields(ids) {
		checks = append(checks, all[slices.IndexFunc(all, func(c catalogue.Check) bool { return c.ID == id })])
	}
	return checks
}

// TestEachCheckWasSeenToFail: of a check that every known release passes nothing else shows
// that it can fail.
func TestEachCheckWasSeenToFail(t *testing.T) {
	mutated := map[string]bool{}
	for _, m := range mutants {
		for _, id := range strings.Fields(m.ids) {
			mutated[id] = true
		}
	}
	for _, c := range catalogue.All() {
		if c.V2Only { // there is no source of a v2 shim here that could be broken
			continue
		}
		if has := mutated[c.ID] || unbroken[c.ID] != ""; catalogue.Conformance(c.ID) && !has {
			t.Errorf("%s has no mutant, and passes on every known release", c)
		}
	}
}
