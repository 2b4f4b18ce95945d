// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/services/events/v1"
	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/harness/procfs"
)

// settledAge is how long the machine is left alone before a latency is measured.
const settledAge = 500 * time.Millisecond

// Relay is the cost of copying output.
type Relay struct {
	Elapsed time.Duration
	CPU     time.Duration // of the shim, user and system
}

// direct is an exec over the shim's own socket.
type direct struct {
	*Client
	shim *Shim
	id   string
	pid  int
}

// execDirect starts argv. stdout and stderr are either both FIFOs or both empty:
// upstream's shims cannot start a process that has only one of them.
func (r *Rig) execDirect(ctx context.Context, container, stdout, stderr string, argv ...string) (_ *direct, err error) {
	shim, err := r.Shim(r.Name, container)
	if err != nil {
		return nil, err
	}
	process, err := bundleProcess(shim)
	if err != nil {
		return nil, err
	}
	process.Args, process.Terminal = argv, false
	spec, err := json.Marshal(process)
	if err != nil {
		return nil, err
	}
	client, err := shim.Dial()
	if err != nil {
		return nil, err
	}
	d := &direct{Client: client, shim: shim, id: "direct-" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	defer func() {
		if err != nil {
			err = errors.Join(err, client.Close())
		}
	}()
	if _, err := d.Exec(ctx, &shimapi.ExecProcessRequest{ID: d.id, Stdout: stdout, Stderr: stderr, Spec: &anypb.Any{TypeUrl: processType, Value: spec}}); err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	started, err := d.Start(ctx, &shimapi.StartRequest{ID: d.id})
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	d.pid = int(started.Pid)
	// As containerd does once it has published the start: until then a shim may
	// hold back the exit.
	if _, err := d.State(ctx, &shimapi.StateRequest{ID: d.id}); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return d, nil
}

// end waits for the exec and deletes it.
func (d *direct) end(ctx context.Context) error {
	_, err := d.Wait(ctx, &shimapi.WaitRequest{ID: d.id})
	if err == nil {
		_, err = d.DeleteProcess(ctx, &shimapi.DeleteProcessRequest{ID: d.id})
	}
	return errors.Join(err, d.Close())
}

// ExecOnce runs true in the container, from Exec to DeleteProcess.
func (r *Rig) ExecOnce(ctx context.Context, container string) error {
	d, err := r.execDirect(ctx, container, "", "", "true")
	if err != nil {
		return err
	}
	return d.end(ctx)
}

// ExitLatency measures the time from the SIGKILL of an exec to its exit event at a
// subscriber of containerd.
func (r *Rig) ExitLatency(ctx context.Context, container string) (time.Duration, error) {
	d, err := r.execDirect(ctx, container, "", "", "sleep", "100000")
	if err != nil {
		return 0, err
	}
	took, err := r.latency(ctx, d.id, func(context.Context, events.EventsClient) error { return syscall.Kill(d.pid, syscall.SIGKILL) })
	if err != nil {
		return 0, errors.Join(err, d.Close())
	}
	return took, d.end(ctx)
}

// EventLatency measures containerd's own share of that: the time from an event that a
// client publishes to the same event at a subscriber.
func (r *Rig) EventLatency(ctx context.Context) (time.Duration, error) {
	event, err := anypb.New(&eventsapi.TaskExit{ID: "none"})
	if err != nil {
		return 0, err
	}
	event.TypeUrl = "containerd.events.TaskExit" // containerd's typeurl has no prefix
	return r.latency(ctx, "none", func(ctx context.Context, c events.EventsClient) error {
		_, err := c.Publish(ctx, &events.PublishRequest{Topic: TopicExit, Event: event})
		return err
	})
}

// latency measures the time from calling cause to the exit event of id.
func (r *Rig) latency(ctx context.Context, id string, cause func(context.Context, events.EventsClient) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "containerd-namespace", r.Name), fenceLimit)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+r.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	client := events.NewEventsClient(conn)
	stream, err := client.Subscribe(ctx, &events.SubscribeRequest{Filters: []string{`topic=="` + TopicExit + `"`}})
	if err != nil {
		return 0, err
	}
	// Until the subscription, which is not answered, is served, and the machine is
	// done with earlier work.
	select {
	case <-time.After(settledAge):
	case <-ctx.Done():
	}
	begin := time.Now()
	if err := cause(ctx, client); err != nil {
		return 0, err
	}
	for {
		envelope, err := stream.Recv()
		if err != nil {
			return 0, fmt.Errorf("exit of %s: %w", id, err)
		}
		took := time.Since(begin)
		var exit eventsapi.TaskExit
		if err := envelope.Event.UnmarshalTo(&exit); err == nil && exit.ID == id {
			return took, nil
		}
	}
}

// Relay has an exec write size MiB to its stdout, reads them, and returns the cost.
func (r *Rig) Relay(ctx context.Context, container string, size int) (m Relay, err error) {
	var fifos [2]*os.File
	for i, name := range []string{"stdout", "stderr"} {
		path := filepath.Join(r.Dir, "fifo", name)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			return m, err
		}
		defer func() { err = errors.Join(err, os.Remove(path)) }()
		if fifos[i], err = os.OpenFile(path, os.O_RDWR, 0); err != nil { // does not wait for the shim
			return m, err
		}
		defer fifos[i].Close()
	}
	shim, err := r.Shim(r.Name, container)
	if err != nil {
		return m, err
	}
	before, err := cpuTime(shim.Pid)
	if err != nil {
		return m, err
	}
	begin := time.Now()
	d, err := r.execDirect(ctx, container, fifos[0].Name(), fifos[1].Name(), "dd", "if=/dev/zero", "bs=65536", "count="+strconv.Itoa(size*16))
	if err != nil {
		return m, err
	}
	if _, err := io.CopyN(io.Discard, fifos[0], int64(size)<<20); err != nil {
		return m, errors.Join(err, d.Close())
	}
	m.Elapsed = time.Since(begin)
	after, err := cpuTime(shim.Pid)
	m.CPU = after - before
	return m, errors.Join(err, d.end(ctx))
}

// cpuTime returns the CPU time that all threads of a process have used.
func cpuTime(pid int) (time.Duration, error) {
	p, ok := procfs.Read(pid)
	if !ok {
		return 0, fmt.Errorf("no process %d", pid)
	}
	return p.CPU, nil
}
