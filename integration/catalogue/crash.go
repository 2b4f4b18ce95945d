// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"slices"
	"time"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakeruntime"
)

var crashChecks = []Check{
	{ID: "B09", Name: "failed exec started twice",
		Incident: "no public thread: a client that retries Start after a failure crashes the shim",
		Asserts:  "two clean errors, the shim lives, Wait of the exec returns",
		Run:      doubleStart},
	{ID: "B10", Name: "Checkpoint without options",
		Incident: "containerd #8393, #8475: the shim dies and the container stays without one",
		Asserts:  "no options and empty options mean the defaults",
		Run:      checkpointOptions},
	{ID: "B10b", Name: "Checkpoint with options of another type",
		Incident: "found beside #8393: the type assertion panics",
		Asserts:  "an error, and the shim lives",
		Run:      checkpointForeign},
	{ID: "B11", Load: Heavy, Name: "ListPids beside Exec and DeleteProcess",
		Incident: "containerd #5364: fatal error: concurrent map iteration and map write",
		Asserts:  "the shim lives through execs that are added and deleted beside three loops of ListPids",
		Limit:    3 * time.Minute,
		Run:      listPidsRace},
}

func doubleStart(c *harness.Case) {
	b := upFaked(c, on("exec", logs("exec failed: no such file or directory"), exits(1)))
	c.Must(b.Exec("e", harness.IO{}, "exit:0"), "Exec")
	for range 2 {
		if _, err := b.Client.Start("e"); c.Prompt(err) == nil {
			c.Errorf("Start of an exec whose runc fails succeeded")
		}
	}
	lives(c, b)
	c.Must(waits(b, "e"), "Wait of the failed exec")
	c.Must(delProc(b, "e"), "DeleteProcess of the failed exec")
}

func checkpointing() harness.Options {
	return harness.Options{Fake: []fakeruntime.Rule{on("checkpoint", exits(0))}}
}

func checkpointOptions(c *harness.Case) {
	b := c.Fixture(checkpointing())
	b.Up()
	image := b.Path("image")
	c.Must(b.Checkpoint(&task.CheckpointTaskRequest{Path: image}), "Checkpoint without options")
	lives(c, b)
	c.Must(b.Checkpoint(&task.CheckpointTaskRequest{Path: image, Options: &anypb.Any{
		TypeUrl: "containerd.linux.runc.CheckpointOptions",
	}}), "Checkpoint with empty options")
	lives(c, b)
}

func checkpointForeign(c *harness.Case) {
	b := c.Fixture(checkpointing())
	b.Up()
	image := b.Path("image")
	err := b.Checkpoint(&task.CheckpointTaskRequest{Path: image, Options: &anypb.Any{TypeUrl: "containerd.linux.runc.CreateOptions"}})
	if c.Prompt(err) == nil {
		c.Errorf("Checkpoint with options of another type succeeded")
	}
	lives(c, b)
}

func listPidsRace(c *harness.Case) {
	// A write to the map must happen while another call iterates over it. Upstream
	// iterates once for each pid, so with many pids, and many execs in the map, that
	// is the longest part of a call.
	const loops, calls, standing, most = 3, 30, 50, 3000
	b := upFaked(c, on("ps", fakeruntime.Step{Op: fakeruntime.Pids, N: 40000}))
	for i := range standing {
		c.Must(b.Exec(fmt.Sprintf("s%d", i), harness.IO{}, "exit:0"), "Exec")
	}
	var lists []*client.Pending
	for range loops {
		lists = append(lists, client.Async("ListPids", func() error {
			for range calls {
				if _, err := b.Within(30 * time.Second).ListPids(b.ID); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	done := func() bool {
		return !slices.ContainsFunc(lists, func(p *client.Pending) bool { return !p.Done() })
	}
	round := 0
	for ; round < most && !done(); round++ {
		id := fmt.Sprintf("e%d", round)
		err := b.Exec(id, harness.IO{}, "exit:0")
		if err == nil {
			_, err = b.DeleteProcess(id)
		}
		if err != nil {
			c.Fatalf("round %d: %v", round, err)
		}
	}
	c.Logf("%d execs were added and deleted", round)
	for _, l := range lists {
		c.Must(l.Await(30*time.Second), "ListPids")
	}
	lives(c, b)
}
