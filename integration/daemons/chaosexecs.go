// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/harness/procfs"
)

// stream runs one exec after the other until ctx ends.
func (c *chaos) stream(ctx context.Context, container string, worker int, rng *rand.Rand) {
	shim, err := c.rig.Shim(c.rig.Name, container)
	if err != nil {
		c.failed("%v", err)
		return
	}
	process, err := bundleProcess(shim)
	if err != nil {
		c.failed("%v", err)
		return
	}
	for n := 0; ctx.Err() == nil; n++ {
		e := chaosExec{id: fmt.Sprintf("%s-%d-%d", container, worker, n), status: uint32(1 + rng.IntN(100))}
		argv := []string{"sh", "-c", fmt.Sprintf("exit %d", e.status)}
		switch rng.IntN(5) {
		case 0:
			argv[2] = fmt.Sprintf("sleep 0.%d; exit %d", rng.IntN(9), e.status)
		case 1:
			e.signal = syscall.SIGKILL
			e.status = 128 + uint32(e.signal)
			argv = []string{"sleep", "100000"}
		case 2:
			e.vanish = true
			argv[2] = fmt.Sprintf("sleep 0.2; exit %d", e.status)
		case 3:
			e.fifo = c.rig.path("fifo", e.id)
			argv[2] = fmt.Sprintf("sleep 0.2; echo %s; exit %d", e.id, e.status)
		}
		p := *process
		p.Args, p.Terminal = argv, false
		if e.spec, err = json.Marshal(&p); err != nil {
			c.failed("%v", err)
			return
		}
		if !c.run(container, &e) {
			pause(ctx, refusedPause)
		}
	}
}

// chaosExec is one exec.
type chaosExec struct {
	id     string
	spec   []byte
	status uint32
	signal syscall.Signal // that ends it, 0 for none
	vanish bool           // the client's connection ends while it runs
	fifo   string         // for its output, which is its id; "" for none
}

// run takes an exec through its life and reports whether it had one. An exec that fails
// with an error, and without a process, is refused if a fault was there for which that may
// be; every other failure is an error. A shim that deletes an exec says that it has no
// process. A start whose time is over may have one later, and is refused only if it is the
// runtime that hangs, as one does that a fault has hit badly.
func (c *chaos) run(container string, e *chaosExec) bool {
	started, mayRun, begun := false, false, time.Now()
	var pid uint32
	out, err := e.open()
	if err != nil {
		c.failed("%v", err)
		return false
	}
	defer e.close(out)
	err = c.with(container, func(ctx context.Context, client *Client) error {
		if _, err := client.Exec(ctx, &shimapi.ExecProcessRequest{ID: e.id, Stdout: e.fifo, Stderr: e.fifo, Spec: &anypb.Any{TypeUrl: processType, Value: e.spec}}); err != nil {
			return fmt.Errorf("exec: %w", err)
		}
		mayRun = true
		c.starting.RLock()
		answer, err := client.Start(ctx, &shimapi.StartRequest{ID: e.id})
		c.starting.RUnlock()
		if err != nil {
			err = fmt.Errorf("start: %w", err)
			if _, left := client.DeleteProcess(ctx, &shimapi.DeleteProcessRequest{ID: e.id}); left != nil {
				return errors.Join(err, fmt.Errorf("delete: %w", left))
			}
			mayRun = false
			return err
		}
		started, pid = true, answer.Pid
		if _, err := client.State(ctx, &shimapi.StateRequest{ID: e.id}); err != nil {
			return fmt.Errorf("state: %w", err)
		}
		if e.signal != 0 {
			if _, err := client.Kill(ctx, &shimapi.KillRequest{ID: e.id, Signal: uint32(e.signal)}); err != nil {
				return fmt.Errorf("kill: %w", err)
			}
		}
		if e.vanish {
			return nil
		}
		return e.finish(ctx, client)
	})
	if err == nil && e.vanish {
		err = c.with(container, e.finish)
	}
	if err == nil {
		err = e.read(out)
	}
	late := errors.Is(err, context.DeadlineExceeded) || grpcstatus.Code(err) == codes.DeadlineExceeded
	hangs := late && !started && mayRun && c.runtimeHangs(container, e.id)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil && (!mayRun && !late || hangs) && c.excused(begun):
		c.report.Refused = append(c.report.Refused, fmt.Sprintf("%s: %v", e.id, err))
		c.unsure[e.id] = hangs
	case err == nil:
		c.report.Execs++
		c.want[e.id] = end{container, pid, e.status}
	default:
		c.unsure[e.id] = true
		c.report.Errors = append(c.report.Errors, fmt.Sprintf("%s: %v", e.id, err))
	}
	return started
}

// runtimeHangs reports whether the runtime that is to start an exec is still at work.
func (c *chaos) runtimeHangs(container, exec string) bool {
	shim, err := c.rig.Shim(c.rig.Name, container)
	return err == nil && slices.ContainsFunc(procfs.Children(shim.Pid), func(p procfs.Process) bool {
		return !p.Dead() && strings.Contains(procfs.Command(p.Pid), exec+".pid")
	})
}

// finish waits for the exec's end and deletes it.
func (e *chaosExec) finish(ctx context.Context, client *Client) error {
	waited, err := client.Wait(ctx, &shimapi.WaitRequest{ID: e.id})
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	deleted, err := client.DeleteProcess(ctx, &shimapi.DeleteProcessRequest{ID: e.id})
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if waited.ExitStatus != e.status || deleted.ExitStatus != e.status {
		return fmt.Errorf("Wait says %d, DeleteProcess says %d, want %d", waited.ExitStatus, deleted.ExitStatus, e.status)
	}
	return nil
}

// open makes the exec's FIFO, if it has one, and opens both ends, so that nobody ever
// waits for the other.
func (e *chaosExec) open() (*os.File, error) {
	if e.fifo == "" {
		return nil, nil
	}
	if err := syscall.Mkfifo(e.fifo, 0o600); err != nil {
		return nil, err
	}
	return os.OpenFile(e.fifo, os.O_RDWR|syscall.O_NONBLOCK, 0)
}

// read checks that all output is there, unless the FIFO was taken away.
func (e *chaosExec) read(out *os.File) error {
	if out == nil {
		return nil
	}
	got := make([]byte, len(e.id)+1)
	err := out.SetReadDeadline(time.Now().Add(chaosSettle))
	if err == nil {
		_, err = io.ReadFull(out, got)
	}
	if err == nil && string(got) != e.id+"\n" {
		err = fmt.Errorf("%q", got)
	}
	if _, gone := os.Lstat(e.fifo); err != nil && gone == nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

func (e *chaosExec) close(out *os.File) {
	if out != nil {
		_ = out.Close()
		_ = os.Remove(e.fifo) // it may be gone already
	}
}
