// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/procfs"
)

// The .strace files are dumps of upstream's shims, built from their tags and
// driven into the bug that the name tells; the production dump is of 2021. Those of
// runc-v2 shims were taken by `shimctl stacks` during the checks V05c and V04.
func TestExplainNamesTheBugOfEachRelease(t *testing.T) {
	tests := map[string]struct {
		bug, reason string
		grade       Grade
		cycle       string // the names of the goroutines, in order
	}{
		"B01-production.txt": {"B01", "ReaperDeadlock", Deadlock, "reaper|exit loop|rpc Kill"},
		"B01-v1.1.2.strace":  {"B01", "ReaperDeadlock", Deadlock, "reaper|exit loop|rpc Start"},
		"B01-v1.2.0.strace":  {"B01", "ReaperDeadlock", Deadlock, "reaper|exit loop|rpc Start"},
		"B01-v1.2.6.strace":  {"B01", "ReaperDeadlock", Deadlock, "reaper|exit loop|rpc Start"},
		"B02-v1.6.38.strace": {"B02", "ReaperStall", Stall, "reaper|exit loop|rpc Start"},
		"B02-v1.7.35.strace": {"B02", "ReaperStall", Stall, "reaper|exit loop|rpc Start"},
		// With blocking sends the kill-all in the exit loop is a deadlock, too.
		"B03-v1.2.0.strace":          {"B01", "ReaperDeadlock", Deadlock, "reaper|exit loop"},
		"B03-v1.2.13.strace":         {"B03", "KillAllStall", Stall, "reaper|exit loop"},
		"B03-v1.6.38.strace":         {"B03", "KillAllStall", Stall, "reaper|exit loop"},
		"B05-v1.2.0.strace":          {"B05", "PublishBlocked", Note, "publisher"},
		"B05-v1.6.38.strace":         {"B05", "PublishBlocked", Note, "publisher"},
		"B08-v1.2.0.strace":          {"B06", "RuncHoldsService", Note, "rpc Kill|rpc Pause"},
		"B08-v1.2.13.strace":         {"B08", "RuncHoldsProcess", Note, "rpc State|rpc Pause"},
		"B08-v1.6.38.strace":         {"B08", "RuncHoldsProcess", Note, "rpc Kill|rpc Pause"},
		"B12-v1.2.0.strace":          {"B12", "DeleteBlocked", Note, "rpc DeleteProcess"},
		"B12-v1.2.13.strace":         {"B12", "DeleteBlocked", Note, "rpc DeleteProcess"},
		"B12-v1.6.38.strace":         {"B12", "DeleteBlocked", Note, "rpc DeleteProcess"},
		"B25-v1.2.0.strace":          {"B25", "FifoWithoutReader", Note, "exit loop|rpc Start"},
		"B25-v1.2.13.strace":         {"B25", "FifoWithoutReader", Note, "exit loop|rpc Start"},
		"B25-v1.6.38.strace":         {"B25", "FifoWithoutReader", Note, "rpc State|exit loop|rpc Start"},
		"B03-runc-v2-v2.4.2.stacks":  {"B03", "KillAllStall", Stall, "reaper|exit loop"},
		"B06-runc-v2-v1.7.35.stacks": {"B06", "RuncHoldsService", Note, "rpc State|rpc Create"},
		"B08-own.stacks":             {"B08", "RuncRunning", Note, "rpc Start of held"},
		"none-v1.1.2.strace":         {},
		"none-v1.2.0.strace":         {},
		"none-v1.6.38.strace":        {},
	}
	files, err := filepath.Glob("testdata/B*")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d files, error %v", len(files), err)
	}
	for _, file := range files {
		if _, ok := tests[filepath.Base(file)]; !ok {
			t.Errorf("%s is not in the table", file)
		}
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			d := parseFile(t, name)
			if !d.Complete {
				t.Errorf("got an incomplete dump: %s", d.Why)
			}
			r := Explain(d)
			if want.bug == "" {
				if len(r.Findings)+len(r.Ongoing) != 0 {
					t.Fatalf("got %+v in an idle shim's dump", r)
				}
				return
			}
			all := append(r.Findings, r.Ongoing...)
			if len(all) != 1 || (len(r.Ongoing) == 1) != (want.grade == Note) {
				t.Fatalf("got %+v, want one", r)
			}
			f := all[0]
			if f.Bug != want.bug || f.Reason != want.reason || f.Grade != want.grade {
				t.Errorf("got %s %s %s, want %s %s %s", f.Bug, f.Reason, f.Grade, want.bug, want.reason, want.grade)
			}
			var names []string
			for _, l := range f.Cycle {
				names = append(names, l.Name)
			}
			if got := strings.Join(names, "|"); got != want.cycle {
				t.Errorf("got cycle %s, want %s", got, want.cycle)
			}
		})
	}
}

func TestProductionDumpSaysSinceWhen(t *testing.T) {
	d := parseFile(t, "B01-production.txt")
	if got := d.Header["pid"]; got != "119820" {
		t.Errorf("got pid %q", got)
	}
	r := Explain(d)
	f := r.Findings[0]
	if f.Since != 83*time.Minute {
		t.Errorf("got since %v, want 83m", f.Since)
	}
	var b strings.Builder
	if _, err := r.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"DEADLOCK: ReaperDeadlock (B01)", "for 83 minutes", "waits for runc kill to exit",
		"goroutine 1: the cycle is closed", "behind it: 1 x rpc State", "shimctl repair", "the dump is complete",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
}

func TestExplainOtherCycles(t *testing.T) {
	tests := map[string]struct{ text, reason string }{
		"B05 a full event queue": {`goroutine 1 [chan send]:
github.com/containerd/containerd/reaper.Reap(0x1)

goroutine 2 [chan send]:
github.com/containerd/containerd/linux/shim.(*Service).checkProcesses(0x1)
github.com/containerd/containerd/linux/shim.(*Service).processExits(0x1)

goroutine 3 [chan receive]:
github.com/containerd/containerd/reaper.(*Monitor).Wait(0x1)
main.(*remoteEventsPublisher).Publish(0x1)
github.com/containerd/containerd/linux/shim.(*Service).forward(0x1)
`, "PublisherDeadlock"},
		"B01 a Wait that must unsubscribe": {`goroutine 1 [chan send]:
github.com/containerd/containerd/reaper.Reap(0x1)

goroutine 2 [semacquire]:
sync.runtime_SemacquireMutex(0x1)
sync.(*Mutex).Lock(0x1)
github.com/containerd/containerd/reaper.(*Monitor).Unsubscribe(0x1)
github.com/containerd/containerd/reaper.(*Monitor).Wait(0x1)
github.com/containerd/go-runc.(*Runc).Exec(0x1)
github.com/containerd/containerd/linux/shim.(*Service).Start(0x1)
`, "ReaperDeadlock"},
		"B29 a full log FIFO": {`goroutine 1 [syscall]:
syscall.write(0x1)
os.(*File).Write(0x1)
github.com/sirupsen/logrus.(*Entry).write(0x1)
main.dumpStacks(0x1)

goroutine 2 [sync.Mutex.Lock]:
internal/sync.(*Mutex).lockSlow(0x1)
sync.(*Mutex).Lock(...)
github.com/sirupsen/logrus.(*Logger).Out(0x1)
github.com/containerd/containerd/runtime/v1/shim.(*Service).checkProcesses(0x1)
`, "LogBlocked"},
		"B08 this project's verb lock": {`goroutine 8 [select labels:{"id": "e1", "rpc": "Delete"}]:
containerd-shim.v1/proc.verbLock.lock(0x1)
containerd-shim.v1/shim.(*Service).DeleteProcess(0x1)

goroutine 9 [select labels:{"id": "e1", "rpc": "Start"}]:
github.com/containerd/go-runc.(*Runc).Exec(0x1)
containerd-shim.v1/proc.detach.func1(0x1)
`, "RuncHoldsProcess"},
		"B08 this project's labels": {`goroutine 9 [select, 12 minutes labels:{"id": "e1", "rpc": "Start"}]:
containerd-shim.v1/reaper.(*Monitor).Run(0x1)
containerd-shim.v1/proc.(*runcRuntime).Exec(0x1)
containerd-shim.v1/proc.(*Exec).Start(0x1)
`, "RuncRunning"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := Parse([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			r := Explain(d)
			if all := append(r.Findings, r.Ongoing...); len(all) == 0 || all[0].Reason != tt.reason {
				t.Fatalf("got %+v, want %s", r, tt.reason)
			}
		})
	}
}

// What a shim at work has for a moment becomes a stall when it has lasted a
// minute; the cause's minutes count, not those of whom it holds up.
func TestExplainStallLastsAMinute(t *testing.T) {
	for since, want := range map[string]Grade{"": "", ", 1 minutes": Stall} {
		d, err := Parse([]byte(`goroutine 8 [sync.Mutex.Lock]:
sync.(*Mutex).Lock(0x1)
github.com/containerd/containerd/runtime/v1/shim.(*Service).State(0x1)
goroutine 9 [chan receive` + since + `]:
github.com/containerd/go-runc.(*Runc).Exec(0x1)
github.com/containerd/containerd/runtime/v1/shim.(*Service).Start(0x1)
`))
		if err != nil {
			t.Fatal(err)
		}
		r := Explain(d)
		all := append(r.Findings, r.Ongoing...)
		if r.Worst() != want || len(all) != 1 || all[0].Reason != "RuncHoldsService" || all[0].Blocked["rpc State"]+len(all[0].Cycle) != 2 {
			t.Errorf("since %q: got %+v, want %q", since, r, want)
		}
	}
}

// Each probe of a wedged shim leaves a goroutine, and B39 one for each client
// that went away: the time must not grow with the square of their number.
func TestExplainManyGoroutines(t *testing.T) {
	b, err := os.ReadFile("testdata/B01-production.txt")
	if err != nil {
		t.Fatal(err)
	}
	waiter := "goroutine 1234567 [semacquire, 83 minutes]:\nsync.(*Mutex).Lock(0x1)\n" +
		"github.com/containerd/containerd/linux/shim.(*Service).State(0x1)\n\n"
	text := strings.Replace(string(b), EndMark, strings.Repeat(waiter, 30000)+EndMark, 1)
	start := procfs.Spent()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := Explain(d)
	if took := procfs.Spent() - start; took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if len(r.Findings) != 1 || r.Findings[0].Blocked["rpc State"] != 30001 {
		t.Errorf("got %+v", r.Findings)
	}
}

func parseFile(t *testing.T, name string) *Dump {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
