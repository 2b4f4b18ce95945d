// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

func TestRefuse(t *testing.T) {
	root := t.TempDir()
	bundle := filepath.Join(root, "7", "cwd")
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(`{"annotations":{"shimctl.repair":"never"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	// A FIFO that nobody writes would hold the reader for ever.
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "6", "cwd"), 0o700), syscall.Mkfifo(filepath.Join(root, "6", "cwd", "config.json"), 0o600)); err != nil {
		t.Fatal(err)
	}
	good := func() *Case {
		return &Case{Shim: scan.Shim{PID: 8, Kind: scan.V1}, Result: health.Result{Verdict: health.Wedged, Reason: "ReaperDeadlock", Confirmed: true}}
	}
	tests := map[string]struct {
		change func(*Case, *Policy)
		want   string
	}{
		"proven":         {func(*Case, *Policy) {}, ""},
		"v2":             {func(c *Case, _ *Policy) { c.Shim.Kind = scan.V2 }, "v1"},
		"ours":           {func(c *Case, _ *Policy) { c.Shim.Build.Ours = true }, "new bug"},
		"suspect":        {func(c *Case, _ *Policy) { c.Result.Verdict = health.Suspect }, "Suspect"},
		"by time only":   {func(c *Case, _ *Policy) { c.Result.Confirmed = false }, "-unproven"},
		"with -unproven": {func(c *Case, p *Policy) { c.Result.Confirmed, p.Unproven = false, true }, ""},
		"other reason":   {func(_ *Case, p *Policy) { p.Reasons = []string{"PublisherDeadlock"} }, "-on-reason"},
		"this reason":    {func(_ *Case, p *Policy) { p.Reasons = []string{"x", "ReaperDeadlock"} }, ""},
		"config broken":  {func(c *Case, _ *Policy) { c.Shim.PID = 6 }, "cannot be read"},
		"opted out":      {func(c *Case, _ *Policy) { c.Shim.PID = 7 }, OptOut},
	}
	for name, tt := range tests {
		c, p := good(), Default
		tt.change(c, &p)
		if got := p.Refuse(root, c); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestWaitBetweenRepairs(t *testing.T) {
	now := time.Unix(1700000000, 0)
	ledger := func(ago ...time.Duration) *Ledger {
		l := &Ledger{}
		for _, a := range ago {
			l.Entries = append(l.Entries, Entry{Time: now.Add(-a)})
		}
		return l
	}
	p := Policy{Cooldown: 10 * time.Minute, PerHour: 3}
	tests := map[string]struct {
		l    *Ledger
		want string
	}{
		"none":         {ledger(), ""},
		"just now":     {ledger(time.Second), "cool-down"},
		"yet to come":  {ledger(-time.Hour, -time.Hour, -time.Hour), ""}, // the clock was set back
		"cooled down":  {ledger(10 * time.Minute), ""},
		"three":        {ledger(50*time.Minute, 30*time.Minute, 20*time.Minute), "cap is 3"},
		"one is older": {ledger(time.Hour, 30*time.Minute, 20*time.Minute), ""},
	}
	for name, tt := range tests {
		if got := p.Wait(tt.l, now); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestLedger(t *testing.T) {
	name := filepath.Join(t.TempDir(), "d", "repairs.json")
	l, err := OpenLedger(name)
	if err != nil {
		t.Fatal(err)
	}
	for range kept + 1 {
		l.Entries = append(l.Entries, Entry{})
	}
	if err := l.Add(Entry{Shim: "a/b", Result: "failed"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Finish("repaired"); err != nil {
		t.Fatal(err)
	}
	l, err = OpenLedger(name)
	if err != nil || len(l.Entries) != kept || l.Entries[kept-1].Result != "repaired" {
		t.Errorf("got %d entries, %v", len(l.Entries), err)
	}
	if err := os.WriteFile(name, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLedger(name); err == nil {
		t.Error("a broken ledger, on which the limits hang, was taken for an empty one")
	}
}

func TestLockIsExclusive(t *testing.T) {
	name := filepath.Join(t.TempDir(), "d", "lock")
	first, err := Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(name); err == nil {
		t.Error("got the lock twice")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

// An export while a repair is being verified must not count it as failed: the
// counter would go down again, which Prometheus takes for a reset.
func TestOutcomeNeverGoesBack(t *testing.T) {
	now := time.Unix(1700000000, 0)
	for want, e := range map[string]Entry{
		"":       {Time: now.Add(-time.Minute), Result: Running},
		Failed:   {Time: now.Add(-2 * time.Hour), Result: Running},
		Repaired: {Time: now, Result: Repaired},
	} {
		if got := e.Outcome(now); got != want {
			t.Errorf("%+v: got %q, want %q", e, got, want)
		}
	}
}

// What the ledger forgets was counted, and stays so.
func TestCountOutlivesTheLedger(t *testing.T) {
	now := time.Unix(1700000000, 0)
	name := filepath.Join(t.TempDir(), "repairs.json")
	l, err := OpenLedger(name)
	if err != nil {
		t.Fatal(err)
	}
	for range kept {
		l.Entries = append(l.Entries, Entry{Time: now, Result: Repaired})
	}
	for i := range 3 {
		if err := l.Add(Entry{Time: now, Result: Failed}); err != nil {
			t.Fatal(err)
		}
		if l, err = OpenLedger(name); err != nil {
			t.Fatal(err)
		}
		if n := l.Count(now); len(l.Entries) != kept || n[Repaired] != kept || n[Failed] != i+1 {
			t.Errorf("%d entries, counted %v", len(l.Entries), n)
		}
	}
}

// What cannot be written has not happened: the limits go by what is in the file.
func TestLedgerThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	l, err := OpenLedger(filepath.Join(dir, "sub", "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sub"), nil, 0o600); err != nil { // no directory
		t.Fatal(err)
	}
	if err := l.Add(Entry{Shim: "a"}); err == nil || len(l.Entries) != 0 {
		t.Errorf("got %v and %+v", err, l.Entries)
	}
}
