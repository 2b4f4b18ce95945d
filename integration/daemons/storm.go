// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/harness/wait"
)

// processType is the type URL of an Any with an OCI process in JSON.
const processType = "types.containerd.io/opencontainers/runtime-spec/1/Process"

// Storm is N execs at once over the shim's own socket, with State and Kill calls in
// between. containerd only carries their exit events.
type Storm struct {
	Container string
	N         int
	Limit     time.Duration
}

// Storm runs s and returns a report. There is an error only if the storm could not be
// made.
func (r *Rig) Storm(ctx context.Context, s Storm) (*Report, error) {
	return r.press(ctx, s.Container, s.N, func(shim *Shim, _ *Events, report *Report) (_ map[string]uint32, err error) {
		process, err := bundleProcess(shim)
		if err != nil {
			return nil, err
		}
		g, err := shim.gate()
		if err != nil {
			return nil, err
		}
		defer g.Close()
		client, err := shim.Dial()
		if err != nil {
			return nil, err
		}
		want, err := storm(ctx, s, client, process, g, report)
		return want, errors.Join(err, client.Close())
	})
}

// bundleProcess returns the specification of the container's own process, as a
// template for execs.
func bundleProcess(shim *Shim) (*specs.Process, error) {
	data, err := os.ReadFile(filepath.Join(shim.Bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, err
	}
	return spec.Process, nil
}

func storm(ctx context.Context, s Storm, client *Client, process *specs.Process, g *wait.Gate, report *Report) (map[string]uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Limit)
	defer cancel()
	count := newTally(report)
	var all, starting sync.WaitGroup
	for i := range s.N {
		all.Add(1)
		starting.Add(1)
		count.begin()
		go func() {
			defer all.Done()
			id := fmt.Sprint("storm", i)
			status, err := stormOne(ctx, client, process, id, i, starting.Done)
			count.end(id, status, err)
		}()
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	starting.Wait()
	err := g.Open()
	<-done
	return count.want, err
}

// stormOne takes one exec through its life. A third of the execs exits at once, a third
// waits until all have started, and a third is killed.
func stormOne(ctx context.Context, client *Client, process *specs.Process, id string, i int, started func()) (uint32, error) {
	started = sync.OnceFunc(started)
	defer started()
	code, argv := exitCode(i)
	kill := false
	switch i % 3 {
	case 1:
		code %= 120
		argv = []string{"sh", "-c", through(code)}
	case 2:
		// SIGKILL, since every other signal can get lost just after Start: runc's init, a Go
		// program, has handlers, and the thread that handles one may be ended by the execve
		// of another before it raises the signal again.
		kill = true
		code, argv = 128+uint32(syscall.SIGKILL), []string{"sleep", "100000"}
	}
	p := *process
	p.Args, p.Terminal = argv, false
	spec, err := json.Marshal(&p)
	if err != nil {
		return 0, err
	}
	if _, err := client.Exec(ctx, &shimapi.ExecProcessRequest{ID: id, Spec: &anypb.Any{TypeUrl: processType, Value: spec}}); err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	if _, err := client.Start(ctx, &shimapi.StartRequest{ID: id}); err != nil {
		return 0, fmt.Errorf("start: %w", err)
	}
	started()
	if _, err := client.State(ctx, &shimapi.StateRequest{ID: id}); err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	if kill {
		if _, err := client.Kill(ctx, &shimapi.KillRequest{ID: id, Signal: uint32(syscall.SIGKILL)}); err != nil {
			return 0, fmt.Errorf("kill: %w", err)
		}
	}
	waited, err := client.Wait(ctx, &shimapi.WaitRequest{ID: id})
	if err != nil {
		return 0, fmt.Errorf("wait: %w", err)
	}
	deleted, err := client.DeleteProcess(ctx, &shimapi.DeleteProcessRequest{ID: id})
	if err != nil {
		return 0, fmt.Errorf("delete: %w", err)
	}
	if waited.ExitStatus != code || deleted.ExitStatus != code {
		return 0, fmt.Errorf("exit: Wait says %d, DeleteProcess says %d, want %d", waited.ExitStatus, deleted.ExitStatus, code)
	}
	return code, nil
}
