// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

const (
	probeEvery = 20 * time.Millisecond
	// probeGiveUp ends a probe that gets no answer at all.
	probeGiveUp = 10 * time.Second
)

// probes asks the shim for State, and containerd for its list of tasks, again and again
// until it is stopped. It makes the calls itself: a new ctr for each would take long to
// start while hundreds of others are starting.
type probes struct {
	stop context.CancelFunc
	all  sync.WaitGroup
	mu   sync.Mutex
	to   *Report
}

// control sends a byte to a child process, cat, and waits for it to come back. The time
// that this takes is the machine's share in a slow answer.
type control struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.Reader
}

func newControl() (*control, error) {
	c := &control{cmd: exec.Command("/bin/cat")}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return c, c.cmd.Start()
}

func (c *control) ask(context.Context) error {
	if _, err := c.in.Write([]byte{'\n'}); err != nil {
		return err
	}
	_, err := io.ReadFull(c.out, make([]byte, 1))
	return err
}

func (c *control) close() {
	_ = c.in.Close()
	_ = c.cmd.Wait() // cat ends with its input
}

// probe starts to ask about a running container. The figures go to report; the caller
// must call end before it reads them.
func (r *Rig) probe(shim *Shim, id string, report *Report) (*probes, error) {
	direct, err := shim.Dial()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+r.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", addr)
		}))
	if err != nil {
		return nil, err
	}
	idle, err := newControl()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &probes{stop: stop, to: report}
	p.all.Add(3)
	go func() {
		defer p.all.Done()
		defer idle.close()
		p.repeat(ctx, &report.Controls, &report.SlowestControl, "cat", idle.ask)
	}()
	go func() {
		defer p.all.Done()
		defer direct.Close()
		p.repeat(ctx, &report.States, &report.SlowestState, "State", func(ctx context.Context) error {
			resp, err := direct.State(ctx, &shimapi.StateRequest{ID: id})
			if err == nil && resp.Status != task.Status_RUNNING {
				err = fmt.Errorf("%v", resp.Status)
			}
			return err
		})
	}()
	go func() {
		defer p.all.Done()
		defer conn.Close()
		client := tasks.NewTasksClient(conn)
		p.repeat(ctx, &report.Lists, &report.SlowestList, "Tasks.List", func(ctx context.Context) error {
			ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", r.Name)
			resp, err := client.List(ctx, &tasks.ListTasksRequest{})
			if err != nil {
				return err
			}
			for _, t := range resp.Tasks {
				if t.ID == id && t.Status != task.Status_RUNNING {
					return fmt.Errorf("%v", t.Status)
				}
			}
			return nil
		})
	}()
	return p, nil
}

// repeat calls ask at regular intervals until ctx ends. It waits for a call that is
// under way then, because that may be the slowest.
func (p *probes) repeat(ctx context.Context, count *int, slowest *time.Duration, name string, ask func(context.Context) error) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(context.Background(), probeGiveUp)
		begin := time.Now()
		err := ask(one)
		took := time.Since(begin)
		cancel()
		p.mu.Lock()
		*count++
		*slowest = max(*slowest, took)
		if err != nil {
			p.to.Unanswered = append(p.to.Unanswered, fmt.Sprintf("%s: %v", name, err))
		}
		p.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (p *probes) end() {
	p.stop()
	p.all.Wait()
}
