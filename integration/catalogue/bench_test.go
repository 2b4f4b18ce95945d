// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/suite"
)

// TestBenchOfAShimThatDies: one that ended after its last exit was said to hang not, and to have
// lost nothing.
func TestBenchOfAShimThatDies(t *testing.T) {
	suite.Run(t, "bench-dies", time.Minute, func(c *harness.Case) {
		m := Bench{N: 1, Limit: 20 * time.Second, Settle: time.Second}
		m.begin(c, up(c))
		m.collect(1, m.start(1))
		m.b.AwaitExit(20*time.Second, "e0")
		m.b.Shim.Kill()
		<-m.b.Shim.Done
		if f := m.end(1); !f.Gone || f.Hung || len(f.Errors) != 1 {
			c.Errorf("%+v", f)
		}
	})
}

// TestPublished: an exit that came twice, or with another status, was counted as any other.
func TestPublished(t *testing.T) {
	exit := func(id string, status uint32) fakedaemon.Event {
		return fakedaemon.Event{ID: id, Exit: &events.TaskExit{ID: id, ExitStatus: status}}
	}
	seen, wrong := published([]fakedaemon.Event{{ID: "e0"}, exit("e0", 7), exit("e2", 255), exit("e1", 7), exit("c", 137), exit("e1", 7)})
	want := []string{"exit events of e1: statuses [7 7], want one of 7", "exit events of e2: statuses [255], want one of 7"}
	if seen != 3 || !slices.Equal(wrong, want) {
		t.Errorf("got %d, %q, want 3, %q", seen, wrong, want)
	}
}
