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

// What chaos says is worth something only if it sees a loss, and an exit of what did not
// run, as of a process that a refused exec has left.
func TestChaosSeesWhatIsLost(t *testing.T) {
	exit := func(id, container string, pid, status uint32) *api.TaskExit {
		return &api.TaskExit{ID: id, ContainerID: container, Pid: pid, ExitStatus: status}
	}
	c := chaos{
		want: map[string]end{"a": {"x", 11, 1}, "b": {"x", 12, 2}, "c": {"x", 13, 3}, "d": {"x", 14, 4}, "e": {"x", 15, 5}, "f": {"x", 16, 6}},
		// g has failed with an error, h was refused.
		unsure: map[string]bool{"g": true},
		ledger: &eventLedger{accepted: []*api.TaskExit{
			exit("a", "x", 11, 1), exit("b", "x", 12, 2), exit("b", "x", 12, 2), exit("c", "x", 13, 0), exit("e", "x", 11, 5), exit("f", "y", 16, 6),
			exit("g", "x", 17, 7), exit("h", "x", 18, 8), exit("x", "x", 10, 0),
		}},
	}
	if err := c.judge(); err != nil {
		t.Error(err)
	}
	r := &c.report
	for _, list := range []struct {
		what      string
		got, want []string
	}{
		{"lost", r.Lost, []string{"d"}},
		{"doubled", r.Doubled, []string{"b"}},
		{"wrong", r.Wrong, []string{
			"c: status 0 of pid 13 in x, want status 3 of pid 13 in x",
			"e: status 5 of pid 11 in x, want status 5 of pid 15 in x",
			"f: status 6 of pid 16 in y, want status 6 of pid 16 in x",
		}},
		{"strange", r.Strange, []string{"h: status 8 of pid 18 in x", "x: status 0 of pid 10 in x"}},
	} {
		if !slices.Equal(list.got, list.want) {
			t.Errorf("%s: got %q, want %q", list.what, list.got, list.want)
		}
	}
	if len(r.Problems()) != 5 { // these four, and that no exec has run
		t.Errorf("got %q", r.Problems())
	}
	r.Faults = map[string]int{daemonStopped: 1}
	if len(r.Problems()) != 4 {
		t.Errorf("doubled by a daemon that was stopped: got %q", r.Problems())
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
