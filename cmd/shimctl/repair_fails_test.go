// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/repair"
	"containerd-shim.v1/cmd/shimctl/internal/rounds"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// withTracer is shimctl whose tracer answers a look as the real one has, with the state in
// file, and an exchange with the text, which may be "" for a tracer that dies. meanwhile is
// called during an exchange.
func withTracer(t *testing.T, file, exchange string, meanwhile func()) program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	asked, let := fifo(t), fifo(t)
	go func() {
		if _, err := asked.Read(make([]byte, 1)); err == nil { // not if it is closed
			meanwhile()
			_, _ = let.WriteString("go on\n")
		}
	}()
	script := filepath.Join(t.TempDir(), "shimctl")
	text := fmt.Sprintf(`#!/bin/sh
[ "$1" = %[1]s ] || exec %[2]s "$@"
read -r request
case $request in
*'"binary":'*) echo >%[3]s; read -r line <%[4]s; echo '%[5]s' ;;
*)
	to=${request##*'"state_file":"'}
	cp %[6]s "${to%%%%\"*}"
	echo '{"report":{}}'
	;;
esac
`, takeover.Arg, self, asked.Name(), let.Name(), exchange, file)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	p := underTest()
	p.self = script
	return p
}

// fifo makes a FIFO, and holds both of its ends open until the test ends.
func fifo(t *testing.T) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// What is done after an attempt in place that has not healed the shim: it is ended only if
// another attempt is not likely to heal it, and what may have been an exchange counts as one.
func TestRepairThatFails(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.0"))
	shim.Wedge(t)
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	file := filepath.Join(t.TempDir(), "state")
	o, err := underTest().tracer().Run(t.Context(), &s, takeover.Request{StateFile: file, Wedged: true}, 5*time.Second)
	if err != nil || o.Error != "" {
		t.Fatalf("look: %+v, %v", o, err)
	}
	at := time.Now()
	for _, c := range []struct {
		name, exchange string
		status         int
		says           string
		ledger         string // the last entry's result
		killed         bool   // the last one
	}{
		{"a full disk", `{"error":"no space left on device"}`, exitSome, "could not be healed in place this time", "", false},
		{"the new program does not answer", `{"swapped":true}`, exitUnverified, "does not answer", repair.Failed, false},
		{"the tracer has died before the commit", ``, exitSome, "could not be healed in place this time", "", false},
		{"the tracer has died", takeover.Commit, exitUnverified, "the tracer has ended", repair.Failed, false},
		{"interrupted before", `{"error":"refused: a layout","refused":true}`, exitSome, "interrupted", "", false},
		{"interrupted meanwhile", `{"error":"refused: a layout","refused":true}`, exitSome, "interrupted", "", false},
		{"its daemon goes down meanwhile", `{"error":"refused: a layout","refused":true}`, exitSome, "unsupervised", "", false},
		{"refused", `{"error":"refused: a layout","refused":true}`, exitOK, "repaired (ReaperDeadlock)", repair.Repaired, true},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		p := withTracer(t, file, c.exchange, func() {
			if c.name == "interrupted meanwhile" {
				cancel()
			}
		})
		p.now = func() time.Time { return at } // all evidence is of one second
		connects := 0
		p.connect = func(*scan.Shim) (containerd, error) {
			connects++
			if c.name == "interrupted before" {
				defer cancel()
			}
			return &fakeDaemon{shim: shim, down: connects > 1 && c.says == "unsupervised"}, nil
		}
		dir := t.TempDir()
		status, o, e := p.with(t, func(p program) int {
			return p.run(ctx, []string{"repair", "-yes", "-kill", "-timeout", "1s", "-state-file", "", "-state", "always", "-dir", dir,
				"-binary", shimtest.Own(t), strconv.Itoa(shim.PID)})
		})
		cancel()
		if status != c.status || !strings.Contains(o+e, c.says) {
			t.Errorf("%s: status %d\n%s%s", c.name, status, o, e)
		}
		ledger, err := repair.OpenLedger(filepath.Join(dir, "repairs.json"))
		if err != nil {
			t.Fatal(err)
		}
		last := ""
		if n := len(ledger.Entries); n > 0 {
			last = ledger.Entries[n-1].Result
		}
		if last != c.ledger {
			t.Errorf("%s: the ledger has %+v", c.name, ledger.Entries)
		}
		if err, mayNeed := os.Remove(filepath.Join(shim.Bundle, ".shim.state.json")), c.ledger == repair.Failed; mayNeed != (err == nil) {
			t.Errorf("%s: its state: %v", c.name, err)
		}
		select {
		case <-shim.Exited():
			if !c.killed {
				t.Fatalf("%s: the shim was killed", c.name)
			}
		default:
			if c.killed {
				t.Errorf("%s: the shim was not killed", c.name)
			}
		}
	}
}

// What a dry run says of a look that has failed: only what is not likely to pass is a reason for -kill.
func TestDryRunThatFails(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.0"))
	shim.Wedge(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ look, says, not string }{
		{`{"error":"no space left on device"}`, "could not be healed in place this time", "-kill"},
		{`{"error":"busy: at work","busy":true}`, "repair -yes -kill", "this time"},
		{`{"error":"refused: a layout","refused":true}`, "repair -yes -kill", "this time"},
		{``, "could not be healed in place this time", "-kill"}, // the tracer has died
	} {
		script := filepath.Join(t.TempDir(), "shimctl")
		text := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = %s ] || exec %s \"$@\"\necho '%s'\n", takeover.Arg, self, c.look)
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		p := underTest()
		p.self = script
		p.connect = func(*scan.Shim) (containerd, error) { return &fakeDaemon{shim: shim}, nil }
		status, o, e := p.capture(t, "repair", "-kill", "-timeout", "1s", "-state-file", "", "-state", "always", "-dir", t.TempDir(),
			"-binary", shimtest.Own(t), strconv.Itoa(shim.PID))
		if status != exitSome || !strings.Contains(o, c.says) || strings.Contains(o, c.not) {
			t.Errorf("%s: status %d\n%s%s", c.look, status, o, e)
		}
	}
}

// A program that cannot take over is the operator's mistake, and no reason to end a shim.
func TestRepairWithTheWrongProgram(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.0"))
	shim.Wedge(t)
	p := underTest()
	p.connect = func(*scan.Shim) (containerd, error) { return &fakeDaemon{shim: shim}, nil }
	for _, binary := range []string{"/nonexistent", shimtest.Baseline(t, "v1.2.0")} {
		for _, args := range [][]string{{"-yes", "-kill"}, {"-kill"}} {
			status, o, e := p.capture(t, append([]string{"repair", "-timeout", "1s", "-state-file", "", "-state", "always", "-dir", t.TempDir(),
				"-binary", binary, strconv.Itoa(shim.PID)}, args...)...)
			if status != exitSome || !strings.Contains(o, "-binary: ") || !strings.Contains(o, "-kill -binary ''") || strings.Contains(o, "would save") {
				t.Errorf("%q with %s: status %d\n%s%s", args, binary, status, o, e)
			}
		}
	}
	select {
	case <-shim.Exited():
		t.Error("the shim was killed")
	default:
	}
}

// A wedge that no dump proves may have been a stall: a shim that answers is not ended for
// what was seen of it before.
func TestUnprovenWedgeThatIsOver(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.0"))
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	dir := t.TempDir()
	r := &repairer{checkFlags: checkFlags{program: underTest(), Checker: rounds.Checker{Limit: time.Second}}, Policy: repair.Policy{Unproven: true}, dir: dir}
	if why := r.again(t.Context(), &rounds.Row{Shim: s}, ""); why != "it answers State" {
		t.Errorf("got %q", why)
	}
	if _, err := os.Stat(filepath.Join(dir, "evidence")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("evidence was saved: %v", err)
	}
}
