// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/events"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/faults"
	"containerd-shim.v1/integration/harness/suite"
)

// TestExitsTooManyAreFound: each exit came three times, and the count was made when the first one
// had come.
func TestExitsTooManyAreFound(t *testing.T) {
	shim := suite.Mutant(t, "shim/outbox.go", "\terr := guard.Call(\"publish\"", "\t_, _ = o.publisher.Publish(ctx, e), o.publisher.Publish(ctx, e)\n\terr := guard.Call(\"publish\"")
	cfg, err := suite.Config(t).WithShim(shim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Mode{}).Count(cfg); err == nil || !strings.Contains(err.Error(), "exit event 2 of victim after 0 failures") {
		t.Errorf("a shim that sends each exit three times: %v", err)
	}
}

func TestWrongExits(t *testing.T) {
	exit := func(id string, status uint32) fakedaemon.Event {
		return fakedaemon.Event{ID: id, Exit: &events.TaskExit{ID: id, ExitStatus: status}}
	}
	for name, tt := range map[string]struct {
		failures int
		events   []fakedaemon.Event
		want     []string
	}{
		"once each":              {0, []fakedaemon.Event{exit("a", 7), {ID: "a"}, exit("b", 9)}, nil},
		"twice, nothing failed":  {0, []fakedaemon.Event{exit("a", 7), exit("b", 9), exit("a", 7)}, []string{"exit event 2 of a after 0 failures"}},
		"twice after a failure":  {1, []fakedaemon.Event{exit("a", 7), exit("b", 9), exit("a", 7)}, nil},
		"the second is another":  {1, []fakedaemon.Event{exit("a", 7), exit("a", 137)}, []string{"exit event 2 of a: status 137, want 7"}},
		"of one that never was":  {0, []fakedaemon.Event{exit("c", 1)}, nil},
		"three after two failed": {2, []fakedaemon.Event{exit("a", 7), exit("a", 7), exit("a", 7)}, nil},
	} {
		if got := wrongExits(tt.events, map[string]uint32{"a": 7, "b": 9}, tt.failures); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// TestRuncInitThatIsLeftIsFound: `runc init` has no environment, by which alone the judge knew a
// process, and the sweep ended it in silence.
func TestRuncInitThatIsLeftIsFound(t *testing.T) {
	r := suite.Result(t, suite.Config(t).Shim, "left", Limit, func(c *harness.Case) {
		b := c.Fixture(harness.Options{})
		b.Shim.Kill()
		<-b.Shim.Done
		left := exec.Command("sleep", "100")
		left.Env = []string{}
		c.Need(left.Start(), "start a process without a mark")
		go func() { _ = left.Wait() }() // the sweep kills it
		procs := b.Cgroup("pids", "cgroup.procs")
		c.Need(os.MkdirAll(filepath.Dir(procs), 0o755), "make the container's cgroup")
		c.Need(os.WriteFile(procs, []byte(strconv.Itoa(left.Process.Pid)), 0), "put it there")
		in := faults.New(c.Shim, faults.Fault{Kill: true})
		(&life{c: c, b: b, in: in, fault: in.Fault}).cleanUp()
	})
	if text := strings.Join(r.Messages, "\n"); r.Verdict != harness.Fail || !strings.Contains(text, `"sleep 100"`) {
		t.Errorf("%s: %q", r.Verdict, text)
	}
}
