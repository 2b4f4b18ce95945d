// SPDX-License-Identifier: Apache-2.0

package health

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/stackdump"
)

var (
	t0      = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	ok      = probe.Answer{Asked: true, OK: true}
	timeout = probe.Answer{Asked: true, TimedOut: true}
)

func shim() scan.Shim {
	return scan.Shim{PID: 7, StartTicks: 70, State: "S", Age: time.Hour, Build: scan.Build{Go: "go1.10"}}
}

func zombie(pid int, ticks uint64) scan.Process {
	return scan.Process{PID: pid, StartTicks: ticks, State: "Z"}
}

// judged feeds a sample at each offset and returns the last result.
func judged(change func(i int, s *Sample), offsets ...time.Duration) Result {
	var (
		rec Record
		res Result
	)
	for i, at := range offsets {
		s := Sample{Time: t0.Add(at), Shim: shim(), Answers: probe.Answers{ShimInfo: ok, State: ok}}
		change(i, &s)
		res = rec.Judge(s)
	}
	return res
}

func TestVerdicts(t *testing.T) {
	wedged := func(s *Sample) { s.Answers.State = timeout }
	cycle := &stackdump.Report{Findings: []stackdump.Finding{{Reason: "ReaperDeadlock", Grade: stackdump.Deadlock}}}
	stall := &stackdump.Report{Findings: []stackdump.Finding{{Reason: "ReaperStall", Grade: stackdump.Stall}}}
	holds := &stackdump.Report{Ongoing: []stackdump.Finding{{Reason: "RuncRunning"}, {Reason: "RuncHoldsService", Blocked: map[string]int{"rpc State": 1}}}}
	yes, no := true, false
	tests := map[string]struct {
		change  func(i int, s *Sample)
		at      []time.Duration
		verdict Verdict
		reason  string
	}{
		"all answers":           {func(int, *Sample) {}, []time.Duration{0, Apart}, Healthy, ""},
		"State times out once":  {func(_ int, s *Sample) { wedged(s) }, []time.Duration{0}, Suspect, StateTimeout},
		"twice, too soon":       {func(_ int, s *Sample) { wedged(s) }, []time.Duration{0, Apart - 1}, Suspect, StateTimeout},
		"twice, a minute apart": {func(_ int, s *Sample) { wedged(s) }, []time.Duration{0, Apart}, Wedged, StateTimeout},
		"an answer in between": {func(i int, s *Sample) {
			if i != 1 {
				wedged(s)
			}
		}, []time.Duration{0, 30 * time.Second, Apart}, Suspect, StateTimeout},
		"another process with the same pid": {func(i int, s *Sample) { wedged(s); s.Shim.StartTicks += uint64(i) }, []time.Duration{0, Apart}, Suspect, StateTimeout},
		"a zombie that stays":               {func(_ int, s *Sample) { s.Shim.Zombies = []scan.Process{zombie(9, 1)} }, []time.Duration{0, Apart}, Wedged, ZombiesRemain},
		"a zombie for half a minute":        {func(_ int, s *Sample) { s.Shim.Zombies = []scan.Process{zombie(9, 1)} }, []time.Duration{0, 30 * time.Second}, Suspect, ZombiesRemain},
		"always new zombies":                {func(i int, s *Sample) { s.Shim.Zombies = []scan.Process{zombie(9+i, 1)} }, []time.Duration{0, Apart, 2 * Apart}, Healthy, ""},
		"a new zombie with an old pid":      {func(i int, s *Sample) { s.Shim.Zombies = []scan.Process{zombie(9, uint64(i))} }, []time.Duration{0, Apart}, Healthy, ""},
		"proof at once":                     {func(_ int, s *Sample) { wedged(s); s.Report = cycle }, []time.Duration{0}, Wedged, "ReaperDeadlock"},
		"a stall is no wedge":               {func(_ int, s *Sample) { wedged(s); s.Report = stall }, []time.Duration{0, Apart}, Suspect, "ReaperStall"},
		"what State waits behind":           {func(_ int, s *Sample) { wedged(s); s.Report = holds }, []time.Duration{0, Apart}, Suspect, "RuncHoldsService"},
		// The false alarms that were seen in the field.
		"SIGSTOP":               {func(_ int, s *Sample) { s.Answers.ShimInfo, s.Shim.State = timeout, "T" }, []time.Duration{0, Apart}, Suspect, Stopped},
		"SIGSTOP, not asked":    {func(_ int, s *Sample) { s.Answers = probe.Answers{}; s.Shim.State = "T" }, []time.Duration{0, Apart}, Suspect, Stopped},
		"a debugger":            {func(_ int, s *Sample) { wedged(s); s.Shim.Tracer = 1 }, []time.Duration{0, Apart}, Suspect, Traced},
		"a debugger, not asked": {func(_ int, s *Sample) { s.Answers = probe.Answers{}; s.Shim.Tracer = 1 }, []time.Duration{0}, Suspect, Traced},
		"a frozen cgroup":       {func(_ int, s *Sample) { s.Answers.ShimInfo = timeout; s.Frozen = true }, []time.Duration{0, Apart}, Suspect, Frozen},
		"disk sleep":            {func(_ int, s *Sample) { wedged(s); s.Disk = true }, []time.Duration{0, Apart}, Suspect, Blocked},
		"starting":              {func(_ int, s *Sample) { wedged(s); s.Shim.Age = Young - 1 }, []time.Duration{0, Apart}, Suspect, Starting},
		"a slow runc": {func(_ int, s *Sample) {
			wedged(s)
			s.Shim.Runcs = []scan.Runtime{{Process: scan.Process{Comm: "runc"}}}
		}, []time.Duration{0, Apart}, Suspect, RuncBlocked},
		"starved":   {func(_ int, s *Sample) { s.Answers.ShimInfo = timeout }, []time.Duration{0, Apart}, Suspect, Unresponsive},
		"no socket": {func(_ int, s *Sample) { s.Answers.ShimInfo = probe.Answer{Asked: true, Err: "refused"} }, []time.Duration{0, Apart}, Suspect, Unreachable},
		// F15: shim and bundle left for good, and nothing wrong with the shim itself.
		"the daemon has no such task": {func(_ int, s *Sample) { s.TaskGone = &yes }, []time.Duration{0}, Suspect, Leaked},
		"so it was, and nobody asked again": {func(i int, s *Sample) {
			if i == 0 {
				s.TaskGone = &yes
			} else {
				s.Answers.State = probe.Answer{}
			}
		}, []time.Duration{0, 30 * time.Second}, Suspect, Leaked},
		"it had no such task yet, and nobody asked again": {func(i int, s *Sample) {
			if i == 0 {
				s.TaskGone, s.Answers.Ended, s.Shim.Age = &yes, true, time.Second
			} else {
				s.Answers.State, s.Shim.Init, s.Shim.Age = probe.Answer{}, scan.Init{PID: 9, State: "S"}, time.Second+Apart
			}
		}, []time.Duration{0, Apart}, Healthy, ""},
		"its container is made by a slow hook": {func(_ int, s *Sample) {
			s.TaskGone, s.Answers.Ended = &yes, true
			s.Shim.Runcs = []scan.Runtime{{Verb: "create", Age: time.Hour}}
		}, []time.Duration{0, Undelete}, Healthy, ""},
		"it is deleted just now": {func(_ int, s *Sample) {
			s.Answers.Ended = true
			s.Shim.Runcs = []scan.Runtime{{Verb: "delete", Age: time.Second}}
		}, []time.Duration{0, Undelete}, Healthy, ""},
		"its deletion hangs": {func(_ int, s *Sample) {
			s.Answers.Ended = true
			s.Shim.Runcs = []scan.Runtime{{Verb: "delete", Age: time.Hour}}
		}, []time.Duration{0, Undelete}, Suspect, Undeleted},
		"its deletion hangs, and the daemon has given up": {func(_ int, s *Sample) {
			s.TaskGone, s.Shim.Runcs = &yes, []scan.Runtime{{Verb: "delete", Age: time.Hour}}
		}, []time.Duration{0}, Suspect, Leaked},
		"it has it again":               {func(i int, s *Sample) { s.TaskGone = []*bool{&yes, &no}[i] }, []time.Duration{0, Apart}, Healthy, ""},
		"it has no such task yet":       {func(_ int, s *Sample) { s.TaskGone, s.Shim.Age = &yes, Young-1 }, []time.Duration{0, Apart}, Healthy, ""},
		"ended, a moment ago":           {func(_ int, s *Sample) { s.Answers.Ended, s.Answers.EndedAt = true, s.Time.Add(1-Undelete) }, []time.Duration{0}, Healthy, ""},
		"ended, in a time to come":      {func(_ int, s *Sample) { s.Answers.Ended, s.Answers.EndedAt = true, t0.Add(time.Hour) }, []time.Duration{0, Undelete}, Suspect, Undeleted},
		"ended, minutes ago":            {func(_ int, s *Sample) { s.Answers.Ended, s.Answers.EndedAt = true, s.Time.Add(-Undelete) }, []time.Duration{0}, Suspect, Undeleted},
		"the shim has no container":     {func(_ int, s *Sample) { s.Answers.Ended = true }, []time.Duration{0, Undelete}, Suspect, Undeleted},
		"init is gone, State not asked": {func(_ int, s *Sample) { s.Answers.State, s.Shim.Init = probe.Answer{}, scan.Init{PID: 9} }, []time.Duration{0, Undelete}, Suspect, Undeleted},
		"init was gone, and is there": {func(i int, s *Sample) {
			s.Answers.State, s.Shim.Init = probe.Answer{}, scan.Init{PID: 9, State: []string{"", "S"}[i]}
		}, []time.Duration{0, Undelete}, Healthy, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := judged(tt.change, tt.at...)
			if got.Verdict != tt.verdict || got.Reason != tt.reason {
				t.Errorf("got %s %s, want %s %s", got.Verdict, got.Reason, tt.verdict, tt.reason)
			}
			if (got.Verdict == Healthy) != got.Since.IsZero() {
				t.Errorf("got since %v", got.Since)
			}
		})
	}
}

// A proven wedge that is looked at while somebody takes its stacks, or storage hangs, is no longer
// called so, but is as old and as proven as before when that is over.
func TestMomentaryCauseForgetsNoWedge(t *testing.T) {
	cycle := &stackdump.Report{Findings: []stackdump.Finding{{Reason: "ReaperDeadlock", Grade: stackdump.Deadlock}}}
	for reason, cause := range map[string]func(*Sample){
		Stopped: func(s *Sample) { s.Shim.State = "T" },
		Traced:  func(s *Sample) { s.Shim.Tracer = 1 },
		Frozen:  func(s *Sample) { s.Frozen = true },
		Blocked: func(s *Sample) { s.Disk = true },
	} {
		change := func(i int, s *Sample) {
			s.Answers.State = probe.Answer{}
			switch i {
			case 0:
				s.Answers.State, s.Report = timeout, cycle
			case 1:
				cause(s)
			}
		}
		if got := judged(change, 0, time.Minute); got.Verdict != Suspect || got.Reason != reason {
			t.Errorf("%s: got %+v", reason, got)
		}
		if got := judged(change, 0, time.Minute, 2*time.Minute); got.Verdict != Wedged || !got.Confirmed || got.Reason != "ReaperDeadlock" || !got.Since.Equal(t0) {
			t.Errorf("after %s: got %+v", reason, got)
		}
	}
}

// Each unanswered State keeps a goroutine of the shim.
func TestStateIsAskedSparingly(t *testing.T) {
	var r Record
	wedged := Sample{Shim: shim(), Answers: probe.Answers{ShimInfo: ok, State: timeout}}
	asked := 0
	for at := time.Duration(0); at < time.Hour; at += 30 * time.Second {
		s := wedged
		s.Time = t0.Add(at)
		if !r.WantsState(s.Time, &s.Shim) {
			s.Answers.State = probe.Answer{}
		} else {
			asked++
		}
		res := r.Judge(s)
		if at > Apart && res.Verdict != Wedged {
			t.Fatalf("after %v: got %s", at, res.Verdict)
		}
	}
	if asked > 2+int(time.Hour/AskWedged) {
		t.Errorf("asked State %d times in an hour", asked)
	}
	proven := Record{Wedged: true, Proven: true, Asked: t0}
	if proven.WantsState(t0.Add(AskWedged-1), &scan.Shim{Zombies: []scan.Process{zombie(9, 1)}}) {
		t.Error("a proven deadlock was asked again at once")
	}
}

// A stall of many minutes may look like a wedge; it must not stay one.
func TestWedgeThatResolves(t *testing.T) {
	got := judged(func(i int, s *Sample) {
		if i < 2 {
			s.Answers.State = timeout
		}
	}, 0, Apart, Apart+AskWedged)
	if got.Verdict != Healthy {
		t.Errorf("got %s %s", got.Verdict, got.Reason)
	}
}

// A wedge that was proven, too: it may have been healed.
func TestProvenWedgeThatResolves(t *testing.T) {
	cycle := &stackdump.Report{Findings: []stackdump.Finding{{Reason: "ReaperDeadlock", Grade: stackdump.Deadlock}}}
	got := judged(func(i int, s *Sample) {
		if i == 0 {
			s.Answers.State, s.Report = timeout, cycle
		}
	}, 0, AskWedged)
	if got.Verdict != Healthy {
		t.Errorf("still the same program: got %s %s", got.Verdict, got.Reason)
	}
	got = judged(func(i int, s *Sample) {
		if i == 0 {
			s.Answers.State, s.Report = timeout, cycle
			return
		}
		s.Shim.Build.Ours, s.Answers.State = true, probe.Answer{} // exchanged in place, and not asked yet
	}, 0, time.Second)
	if got.Verdict != Healthy {
		t.Errorf("another program: got %s %s", got.Verdict, got.Reason)
	}
}

func TestMemory(t *testing.T) {
	name := filepath.Join(t.TempDir(), "new", "check.json")
	m, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	seven := shim()
	m.Of(&seven, t0).TimedOut = t0
	m.Of(&scan.Shim{PID: 8, StartTicks: 80}, t0)
	if err := m.Store(name, map[int]bool{7: true}); err != nil {
		t.Fatal(err)
	}
	m, err = Load(name)
	if err != nil || len(m) != 1 || !m.Of(&seven, t0).TimedOut.Equal(t0) {
		t.Fatalf("got %+v, %v", m, err)
	}
	if r := m.Of(&seven, t0.Add(-time.Hour)); !r.TimedOut.IsZero() {
		t.Error("a record of a time to come was kept when the clock was set back")
	}
	m.Of(&seven, t0).TimedOut = t0
	healed := seven
	healed.Build.Ours = true
	if r := m.Of(&healed, t0); !r.TimedOut.IsZero() {
		t.Error("another program in the same process kept the record of the first")
	}
	seven.StartTicks++
	if r := m.Of(&seven, t0); !r.TimedOut.IsZero() {
		t.Error("a recycled pid kept its record")
	}
	if err := os.WriteFile(name, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := Load(name); err != nil || len(m) != 0 {
		t.Errorf("broken file: got %+v, %v", m, err)
	}
}
