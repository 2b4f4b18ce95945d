// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"sync/atomic"
	"time"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// FloodSize is how many execs come at once: as from many health checks, or a loop of
// `docker exec` in a script, on a host that was too busy for a moment.
const FloodSize = 100

// floodQuiet is how long a flood may make no progress before the shim counts as
// hung. A runc exec takes some 25 ms, and ten times as long on a busy host.
const floodQuiet = 15 * time.Second

var floodChecks = []Check{
	{ID: "B01b", Load: Heavy, Name: "flood of execs on real runc",
		Incident: "containerd #2709, #3529: the production incident of Docker 18.06",
		Asserts:  "100 execs at once all start and exit, each once and with its own status, State answers in 2 s, no zombie stays",
		Limit:    120 * time.Second,
		Run:      func(c *harness.Case) { Flood(c, FloodSize, Watch{}) }},
	{ID: "B01c", Load: Heavy, Name: "flood of execs while another runc hangs",
		Incident: "containerd #2743, #4177: one call is held open by a runc that was stopped",
		Asserts:  "40 execs at once all start and exit while `runc update` hangs",
		Limit:    120 * time.Second,
		Run:      floodBesideHungRunc},
	{ID: "B01d", Load: Heavy, Name: "flood of execs while a runc is stopped",
		Incident: "containerd #2743, #4177: the same by SIGSTOP, as a debugger or a frozen cgroup does it",
		Asserts:  "40 execs at once all start and exit while the runc of another exec is stopped by SIGSTOP, which goes on at SIGCONT",
		Limit:    120 * time.Second,
		Run:      floodBesideStoppedRunc},
}

// Watch has functions that are called while a flood runs; each may be nil.
type Watch struct {
	Ended func(n int)        // when n execs have ended
	Hung  func(pid int) bool // when the shim makes no progress; reports whether to wait longer, once
}

// Flood starts n execs at once, and checks that each ends once with its own status and
// that the shim then answers and has no zombies.
func Flood(c *harness.Case, n int, w Watch) {
	b := up(c)
	flood(c, b, n, w)
	answers(c, b, b.ID)
	noZombies(c, b, 5*time.Second)
}

// floodStatus returns the exit status of exec i. It differs between neighbours, so that
// swapped exits are noticed.
func floodStatus(i int) uint32 { return uint32(i%100) + 1 }

func flood(c *harness.Case, b *harness.Fixture, n int, w Watch) {
	var ended atomic.Int64
	var all []*client.Pending
	for i := range n {
		id, begun := fmt.Sprintf("e%d", i), time.Now()
		caller := b.Within(2 * time.Minute)
		all = append(all, client.Async("exec "+id, func() error {
			status, err := b.RunExec(caller, id, fmt.Sprintf("exit:%d", floodStatus(i)))
			if err != nil {
				return err
			}
			ended.Add(1)
			c.Sample(time.Since(begun))
			if status != floodStatus(i) {
				return fmt.Errorf("Wait of %s: status %d, want %d", id, status, floodStatus(i))
			}
			return nil
		}))
	}
	last, since := int64(-1), time.Now()
	done := func() bool {
		for _, p := range all {
			if !p.Done() {
				return false
			}
		}
		return true
	}
	_ = wait.For(100*time.Second, "", func() bool {
		if now := ended.Load(); now != last {
			last, since = now, time.Now()
			if w.Ended != nil {
				w.Ended(int(now))
			}
		}
		if !done() && time.Since(since) > floodQuiet && w.Hung != nil && w.Hung(b.Shim.Pid) {
			w.Hung, since = nil, time.Now()
		}
		return done() || time.Since(since) > floodQuiet
	})
	if !done() {
		c.Fatalf("%d of %d execs have ended, and none in the last %v", last, n, time.Since(since).Round(time.Second))
	}
	for _, p := range all {
		if err := p.Await(time.Second); err != nil {
			c.Errorf("%v", err)
		}
	}
	want := map[string]uint32{}
	for i := range n {
		id := fmt.Sprintf("e%d", i)
		b.AwaitExit(20*time.Second, id)
		want[id] = floodStatus(i)
	}
	eachOnce(c, b, want)
}

func floodBesideHungRunc(c *harness.Case) {
	b := upFaked(c, gated("update", "", "hang"))
	held := heldAt(c, b, "hang", "Update", func() error {
		return b.Within(2 * time.Minute).Update(&task.UpdateTaskRequest{Resources: noResources})
	})
	flood(c, b, 40, Watch{})
	answers(c, b, b.ID)
	open(c, b.Fake.Gate("hang"))
	c.Must(held.Await(10*time.Second), "Update")
}

func floodBesideStoppedRunc(c *harness.Case) {
	b := upFaked(c, onMatch("exec", "/held.pid", fakeruntime.Step{Op: fakeruntime.Stop, Name: "stop"}, runReal))
	held := startAtGate(c, b, "held", "stop", "exit:9")
	runc := b.Fake.Waiting("stop")[0]
	c.Await(5*time.Second, "runc is stopped", func() bool {
		p, ok := procfs.Read(runc)
		return ok && p.State == 'T'
	})
	flood(c, b, 40, Watch{})
	answers(c, b, b.ID)
	if held.Done() {
		c.Errorf("Start of the exec whose runc is stopped has returned")
	}
	c.Need(unix.Kill(runc, unix.SIGCONT), "continue runc")
	c.Must(held.Await(10*time.Second), "Start of the exec whose runc was stopped")
	b.AwaitStatus(5*time.Second, "held", 9)
}
