// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"time"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/launch"
	"containerd-shim.v1/integration/harness/procfs"
)

// threadChurn has the shim start execs in many goroutines at once, so that its threads
// come and go.
func threadChurn(c *harness.Case) {
	const clients, each = 12, 5
	b := up(c)
	var all []*client.Pending
	for n := range clients {
		by := b.Dial(launch.Containerd1_7).Within(30 * time.Second)
		all = append(all, client.Async("execs", func() error {
			for i := range each {
				id := fmt.Sprintf("e%d-%d", n, i)
				status, err := b.RunExec(by, id, fmt.Sprintf("exit:%d", n+1))
				if err == nil && int(status) != n+1 {
					err = fmt.Errorf("%s: status %d, want %d", id, status, n+1)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	for _, p := range all {
		c.Must(p.Await(50*time.Second), "exec")
	}
}

func readersGone(c *harness.Case) {
	g := launch.Containerd1_4_1
	b := c.Fixture(harness.Options{Generation: &g, Debug: true, Container: harness.Container{Args: []string{"gate:/go", "print:200000", "sleep"}}})
	gate := b.Gate("go")
	out, errs := b.Stream("out").OpenOnly(), b.Stream("err").OpenOnly()
	b.UpWith(harness.IO{Stdout: out.Path, Stderr: errs.Path})
	c.Await(5*time.Second, "the streams are open", func() bool { return out.Opened() && errs.Opened() })
	out.Close()
	errs.Close()
	b.Daemon.Crash()
	b.Shim.LeaveLogs()
	open(c, gate)
	c.Must(b.Exec("e", harness.IO{}, "exit:0"), "Exec in the container")
	_, err := b.Client.Start("e")
	c.Must(err, "Start in the container")
	c.Must(waits(b, "e"), "Wait of e")
	before := cpu(b)
	const look = 2 * time.Second
	elapse(look)
	if used := cpu(b) - before; used > look/4 {
		c.Errorf("the shim used %v of CPU in %v", used, look)
	}
	lives(c, b)
	if !procfs.Alive(b.InitPid) {
		c.Errorf("the container is dead")
	}
}

// cpu returns the CPU time that the shim has used so far.
func cpu(b *harness.Fixture) time.Duration {
	p, _ := procfs.Read(b.Shim.Pid) // lives checks that it is alive
	return p.CPU
}
