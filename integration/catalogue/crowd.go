// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"time"

	"containerd-shim.v1/integration"
	"containerd-shim.v1/integration/harness/procfs"
)

// threadChurn starts execs from many goroutines of the shim at once, so that
// its threads come and go.
func threadChurn(c *integration.Case) {
	const clients, each = 12, 5
	b := c.Box(integration.Options{})
	b.Up()
	var all []*integration.Pending
	for n := range clients {
		client := b.Dial(integration.Daemon17)
		all = append(all, integration.Async("execs", func() error {
			for i := range each {
				id := fmt.Sprintf("e%d-%d", n, i)
				if err := b.Exec(id, integration.IO{}, fmt.Sprintf("exit:%d", n+1)); err != nil {
					return err
				}
				if _, err := client.Within(30 * time.Second).Start(id); err != nil {
					return err
				}
				w, err := client.Within(30 * time.Second).Wait(id)
				if err != nil {
					return err
				}
				if int(w.GetExitStatus()) != n+1 {
					return fmt.Errorf("%s: status %d, want %d", id, w.GetExitStatus(), n+1)
				}
			}
			return nil
		}))
	}
	for _, p := range all {
		c.Must(p.Await(50*time.Second), "exec")
	}
}

func readersGone(c *integration.Case) {
	g := integration.Daemon141
	b := c.Box(integration.Options{Generation: &g, Debug: true, Container: integration.Container{Args: []string{"gate:/go", "print:200000", "sleep"}}})
	gate := b.Gate("go")
	out, errs := b.Stream("out").OpenOnly(), b.Stream("err").OpenOnly()
	r, err := b.CreateTask(b.CreateRequest(integration.IO{Stdout: out.Path, Stderr: errs.Path}))
	c.Must(err, "Create")
	_, err = b.Client.Start(b.ID)
	c.Must(err, "Start")
	c.Await(5*time.Second, "the streams are open", func() bool { return out.Opened() && errs.Opened() })
	out.Close()
	errs.Close()
	b.Daemon.Vanish()
	b.Shim.LeaveLogs()
	open(c, gate)
	b.MustExec("e", integration.IO{}, "exit:0")
	_, err = b.Wait("e")
	c.Must(err, "Wait of e")
	before := cpu(b)
	const look = 2 * time.Second
	elapse(look)
	if used := cpu(b) - before; used > look/4 {
		c.Errorf("the shim used %v of CPU in %v", used, look)
	}
	lives(c, b)
	if !procfs.Alive(int(r.GetPid())) {
		c.Errorf("the container is dead")
	}
}

// cpu is what the shim has used so far.
func cpu(b *integration.Box) time.Duration {
	p, _ := procfs.Read(b.Shim.Pid) // that it lives is looked at elsewhere
	return p.CPU
}
