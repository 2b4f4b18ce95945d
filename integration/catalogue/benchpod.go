// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// KillAll lets N execs of one container end at once while runc kills what is left of
// another one of the same v2 shim. Wall, and the limit, are from the end of that runc on.
func (m Bench) KillAll(c *harness.Case) Figures {
	if !c.V2 {
		c.Need(errNotV2, "make a group")
	}
	first, second := podUp(c, hostPid(gated("kill", "", "kill")), harness.Options{})
	m.begin(c, second)
	gate := second.Gate("go")
	ends := m.start(m.N, "gate:/go")
	c.Await(m.patience(), "every exec runs", func() bool { return m.started() == m.N })
	killedAtGate(c, first)
	open(c, gate)
	// As in B03: only then is runc's own exit certain to come after theirs.
	wait.Until(m.Limit, func() bool { return len(procfs.Children(second.Shim.Pid)) < 3 })
	begun := time.Now()
	open(c, first.Fake.Gate("kill"))
	m.collect(m.N, ends)
	m.figure.Wall = time.Since(begun)
	return m.end(m.N)
}

// started is the number of execs of which the daemon has been told that they run.
func (m *Bench) started() (n int) {
	for i := range m.N {
		for _, e := range m.b.Daemon.Of(m.b.ID, fmt.Sprintf("e%d", i)) {
			if topic(e) == "exec-started" {
				n++
			}
		}
	}
	return n
}

// killedAtGate kills init of a container of hostPid, and returns once runc, which kills
// the rest of it, is at the gate "kill". A shim that does that by other means is not there.
func killedAtGate(c *harness.Case, b *harness.Fixture) {
	c.Need(unix.Kill(b.InitPid, unix.SIGKILL), "kill init")
	b.Gone(5*time.Second, "init", b.InitPid)
	c.Logf("runc kill: %v", wait.For(2*time.Second, "at the gate", func() bool { return b.Fake.Arrived("kill") > 0 }))
}
