// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"os"
	"slices"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/events"
)

// TestChaos is a short one; `make daemons/chaos MINUTES=10` is the same for longer.
func TestChaos(t *testing.T) {
	r := idleRig(t, shimUnderTest())
	copied := t.TempDir() + "/containerd-shim"
	data, err := os.ReadFile(r.Bin)
	if err == nil {
		err = os.WriteFile(copied, data, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	report, err := r.Chaos(t.Context(), Chaos{For: 25 * time.Second, Seed: 1, Containers: 2, Programs: []string{r.Bin, copied}, Log: func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report)
	for _, p := range report.Problems() {
		t.Error(p)
	}
	if len(report.Faults) < 3 || report.Execs < 10 || report.SlowestState > 20*time.Second {
		t.Errorf("too little was done, or State was late: %v", report)
	}
}

// What chaos says is worth something only if it sees a loss.
func TestChaosSeesWhatIsLost(t *testing.T) {
	c := chaos{want: map[string]uint32{"a": 1, "b": 2, "c": 3, "d": 4}, ledger: &eventLedger{accepted: []*api.TaskExit{
		{ID: "a", ExitStatus: 1}, {ID: "b", ExitStatus: 2}, {ID: "b", ExitStatus: 2}, {ID: "c", ExitStatus: 0}, {ID: "e"},
	}}}
	if err := c.judge(); err != nil {
		t.Error(err)
	}
	r := &c.report
	if !slices.Equal(r.Lost, []string{"d"}) || !slices.Equal(r.Doubled, []string{"b"}) || !slices.Equal(r.Wrong, []string{"c: 0, want 3"}) {
		t.Errorf("got %+v", r)
	}
	if len(r.Problems()) != 3 { // lost, wrong, and that no exec has run
		t.Errorf("got %q", r.Problems())
	}
}

// Nor may an exec be refused while nothing is wrong.
func TestChaosExcusesWhatAFaultRefuses(t *testing.T) {
	c := chaos{report: ChaosReport{Faults: map[string]int{}}}
	judge := func(begun time.Time) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.excused(begun)
	}
	if judge(time.Now()) {
		t.Error("excused before the first fault")
	}
	before := time.Now()
	ends := c.refuses()
	during := time.Now()
	if !judge(before) || !judge(during) {
		t.Error("not excused while it lasts")
	}
	ends()
	if !judge(during) || judge(time.Now()) {
		t.Error("what began meanwhile is excused, and nothing later")
	}
}
