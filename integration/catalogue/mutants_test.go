// SPDX-License-Identifier: Apache-2.0

package catalogue_test

import (
	"strings"
	"testing"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/suite"
)

// mutants are variants of this project's shim with one thing broken, for checks that no
// known release fails, or with all that they assert: the check must fail on its mutant, with
// a message that contains says, which shows that it is able to fail. The old text must be in the file exactly
// once.
var mutants = map[string]struct{ file, old, broken, says string }{
	"B20b": {"shim/exits.go", "!hurry && !x.aloneLocked() || ", "", "before runc exec has returned"},
	"B26c": {"proc/stdio/streams.go", "os.OpenFile(os.DevNull,", `os.OpenFile("/dev/zero",`, "want /dev/null"},
	"B31b": {"cmd/containerd-shim/signals.go", "\t\t\t\t\tlog.Load().writeStacks(text)\n", "\t\t\t\t\t_ = text\n", "SIGUSR1 with nowhere to write"},
	"B33c": {"proc/stdio/console.go", "Row: size.Height, Col: size.Width}", "Row: size.Width, Col: size.Height}", `want "45 123"`},
	"B58":  {"reaper/monitor.go", "env = dropVars(os.Environ(), m.dropEnv)", "env = os.Environ()", "dial unixgram"}, // runc itself then fails
	"B60":  {"shim/conn.go", "c, creds, err := h.sameUser.Handshake(ctx, c)", "creds, err := any(nil), error(nil)", "uid 65534 open"},
	"B62":  {"cmd/containerd-shim/log.go", "unix.Mkfifo(path, 0o700)", "unix.Mkfifo(path, 0o777)", "shim.stdout.log"},
	"B64": {"reaper/forker.go", "\t\tunblock()\n\t\tfn()\n\t}", "\t\tunblock()\n\t\tshort(fn)\n\t}\n}\n\n" +
		"// short forks on a thread that ends.\nfunc short(fn func()) {\n" +
		"\tdone := make(chan struct{})\n\tgo func() { runtime.LockOSThread(); defer close(done); fn() }()\n\t<-done", ""},
	"B64b": {"proc/runtime.go", "c.Pdeathsig = unix.SIGKILL", "c.Pdeathsig = unix.Signal(0)", "runc (pid"},
	"F20":  {"shim/exits.go", " || later(x.last.due(x.limits, now))", "", "the exit of c"}, // the container's; those of execs are held
	"F25":  {"proc/stdio/output.go", "ord.exited.Add(o.limits.Stubborn)", "ord.exited.Add(time.Hour)", "the output ends"},
}

func TestMutants(t *testing.T) {
	for id, m := range mutants {
		t.Run(id, func(t *testing.T) {
			shim := suite.Mutant(t, m.file, m.old, m.broken)
			check := catalogue.Matching(id)[0]
			r := suite.Result(t, shim, "mutant-"+id, check.Limit, check.Run)
			if text := strings.Join(r.Messages, "\n"); r.Verdict != harness.Fail || !strings.Contains(text, m.says) {
				t.Errorf("%s is %s on a shim without %q: %s", check, r.Verdict, m.old, text)
			}
		})
	}
}
