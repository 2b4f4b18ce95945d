// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"time"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/fakeruntime"
)

// retryTime is how long an event may take once the daemon takes events again: long
// enough for any back-off, and far less than people wait.
const retryTime = 20 * time.Second

var outboxChecks = []Check{
	{ID: "B04", Name: "event refused once",
		Incident: "containerd #3177, docker/for-linux #779, moby #38501: process gone, docker says Up for ever",
		Asserts:  "an exit whose delivery fails is delivered later, once, and in order",
		Run:      refusedOnce},
	{ID: "B04b", Name: "daemon gone during the exit of init",
		Incident: "containerd #3125, #10390: a restart of containerd loses the exit",
		Asserts:  "an exit while every socket and the publish binary are gone is delivered once they are back",
		Run:      daemonGone},
	{ID: "B05", Name: "publisher hangs",
		Incident: "containerd #6166: after one stuck publish no event of that container arrives",
		Asserts:  "one delivery without an answer delays events for a bounded time and loses none",
		Limit:    120 * time.Second,
		Run:      publisherHangs},
	{ID: "B05b", Load: Heavy, Name: "publisher hangs for ever and 160 execs exit",
		Incident: "containerd #6166: with enough exits the whole API hangs",
		Asserts:  "State, Wait and Start do not depend on the publisher",
		Run:      publisherBackpressure},
	{ID: "F06", Name: "processes forked for a daemon that is away",
		Incident: "found by measuring: one containerd publish for each retry, for ever",
		Asserts:  "an event that waits for a daemon costs two processes in 8 s at the most, and arrives",
		Run:      forksWithoutDaemon},
	{ID: "F07", Name: "daemon that stalls and goes on",
		Incident: "found by measuring: a daemon that accepts and stalls for 25 s gets the same exit five times",
		Asserts:  "a daemon that stalls for 22 s is given the event twice at the most, and takes it",
		Limit:    90 * time.Second,
		Run:      stalledDaemon},
	{ID: "F21", Name: "daemon that is back while its binary hangs",
		Incident: "found by measuring: events come up to 33 s after the daemon",
		Asserts:  "the exit arrives within 5 s of the daemon's return",
		Run:      backBesideBinary},
}

func forksWithoutDaemon(c *harness.Case) {
	const most, watched = 2, 8 * time.Second
	b := up(c)
	b.Daemon.OnlyBinary()
	b.Daemon.Behave(fakedaemon.Refuse, -1)
	b.MustExec("one", harness.IO{}, "exit:1")
	c.Must(waits(b, "one"), "Wait")
	elapse(watched)
	if n := len(b.Daemon.Publishers()); n > most {
		c.Errorf("%d processes in %v, want %d at the most", n, watched, most)
	}
	b.Daemon.Behave(fakedaemon.Accept, 0)
	b.Daemon.Crash()
	c.Need(b.Daemon.Restart(), "restart fake daemon")
	b.AwaitExit(retryTime, "one")
}

func stalledDaemon(c *harness.Case) {
	b := up(c)
	b.Daemon.Behave(fakedaemon.Hang, -1)
	b.MustExec("one", harness.IO{}, "exit:1")
	elapse(22 * time.Second)
	if n := b.Daemon.Attempts(); n > 2 {
		c.Errorf("%d attempts, want 2 at the most", n)
	}
	b.Daemon.Behave(fakedaemon.Accept, 0) // the attempts that hung fail
	b.AwaitExit(retryTime, "one")
	once(c, b, "one")
}

func backBesideBinary(c *harness.Case) {
	b := up(c)
	b.Daemon.OnlyBinary()
	b.Daemon.Behave(fakedaemon.Hang, 1)
	b.MustExec("one", harness.IO{}, "exit:1")
	c.Await(10*time.Second, "the binary is run", func() bool { return len(b.Daemon.Publishers()) > 0 })
	c.Need(b.Daemon.Sockets(), "bring the sockets back")
	b.AwaitExit(5*time.Second, "one")
}

// copied is how soon a second copy of an exit comes, if one does: it takes another way than
// the first, or was begun together with it.
const copied = 500 * time.Millisecond

// eachOnce checks that the exits of these processes, which have come, come once only, and
// have these statuses.
func eachOnce(c *harness.Case, b *harness.Fixture, want map[string]uint32) {
	elapse(copied)
	for id, status := range want {
		exits := b.Daemon.ExitsOf(id)
		if got := exits[0].Exit.GetExitStatus(); len(exits) != 1 || got != status {
			c.Errorf("%s: %d exits, status %d, want one, status %d", id, len(exits), got, status)
		}
	}
}

// once checks that each id has exactly one exit, in that order.
func once(c *harness.Case, b *harness.Fixture, ids ...string) {
	elapse(copied)
	var got []string
	for _, e := range b.Daemon.Events() {
		got = append(got, e.Exit.GetID())
	}
	if fmt.Sprint(got) != fmt.Sprint(ids) {
		c.Errorf("exits taken by the daemon: %v, want %v", got, ids)
	}
}

// refusedOnce lets the exit of two come while that of one waits to be tried again. A v2 shim of
// upstream's waits for a second, then for two, so that two has the time to be first.
func refusedOnce(c *harness.Case) {
	b := up(c)
	gate := b.Gate("go")
	b.MustExec("two", harness.IO{}, "gate:/go", "exit:2")
	b.Daemon.Behave(fakedaemon.Refuse, -1)
	b.MustExec("one", harness.IO{}, "exit:1")
	c.Await(retryTime, "the exit is published again", func() bool { return b.Daemon.Attempts() > 1 })
	b.Daemon.Behave(fakedaemon.Accept, 0)
	open(c, gate)
	b.AwaitExit(retryTime, "two")
	b.AwaitExit(retryTime, "one")
	once(c, b, "one", "two")
}

func daemonGone(c *harness.Case) {
	b := up(c)
	b.Daemon.Crash()
	c.Must(b.Kill(b.ID, 9, false), "Kill")
	w, err := b.Wait(b.ID)
	c.Must(err, "Wait of init")
	if w.GetExitStatus() != 137 {
		c.Errorf("Wait: status %d, want 137", w.GetExitStatus())
	}
	// Give a single attempt time to fail: starting a missing binary fails at once.
	c.Never(time.Second, "an event reached a daemon that is gone", func() bool { return len(b.Daemon.Events()) > 0 })
	c.Need(b.Daemon.Restart(), "restart fake daemon")
	b.AwaitExit(retryTime, b.ID)
	once(c, b, b.ID)
}

func publisherHangs(c *harness.Case) {
	b := up(c)
	b.Daemon.Behave(fakedaemon.Hang, 1)
	b.MustExec("one", harness.IO{}, "exit:1")
	c.Await(10*time.Second, "an attempt to publish", func() bool { return b.Daemon.Attempts() > 0 })
	b.MustExec("two", harness.IO{}, "exit:2")
	_, err := b.Within(5 * time.Second).Wait("two")
	c.Must(err, "Wait of two")
	b.AwaitExit(retryTime, "two")
	b.AwaitExit(retryTime, "one")
	once(c, b, "one", "two")
}

func publisherBackpressure(c *harness.Case) {
	const n = 160 // more than upstream's queue of 128 and what is in flight
	b := upFaked(c, on("exec", fakeruntime.Step{Op: fakeruntime.Process}))
	b.Daemon.Behave(fakedaemon.Hang, -1)
	for i := range n {
		id := fmt.Sprintf("e%d", i)
		b.MustExec(id, harness.IO{})
		_, err := b.Within(5 * time.Second).Wait(id)
		c.Must(err, "Wait of "+id)
	}
	_, err := b.Within(prompt).State(b.ID)
	c.Must(err, "State of init")
}
