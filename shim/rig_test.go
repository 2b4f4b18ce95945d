// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc"
	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types"
	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// daemon records the exits that it takes. While refuse returns an error it
// takes none.
type daemon struct {
	mu     sync.Mutex
	exits  []*events.TaskExit // guarded by mu
	refuse func() error       // guarded by mu
	took   func(id string)    // guarded by mu; told of each exit that is taken, if not nil
}

func (d *daemon) Publish(_ context.Context, e *types.Envelope) error {
	d.mu.Lock()
	refuse := d.refuse
	d.mu.Unlock()
	if refuse != nil {
		if err := refuse(); err != nil {
			return err
		}
	}
	var exit events.TaskExit
	if err := proto.Unmarshal(e.Event.Value, &exit); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.exits = append(d.exits, &exit)
	if d.took != nil {
		d.took(exit.ID)
	}
	return nil
}

func (d *daemon) refuseBy(fn func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = fn
}

func (d *daemon) taken() []*events.TaskExit {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*events.TaskExit(nil), d.exits...)
}

// ids lists whose exits were taken, in order.
func (d *daemon) ids() []string {
	var ids []string
	for _, e := range d.taken() {
		ids = append(ids, e.ID)
	}
	return ids
}

// rig is a shim without its command: server, supervisor, outbox, and a fake
// runtime and daemon.
type rig struct {
	*testing.T
	runtime *fakeRuntime
	daemon  *daemon
	sup     *Supervisor
	client  api.ShimService
	bundle  string
	socket  string
	limits  Limits
	// children are what the test itself has spawned.
	children []*fakeProcess
}

// testLimits are short enough for a test to wait for, and long enough to be told
// apart from what happens at once.
var testLimits = Limits{Reply: time.Second, Asked: 3 * time.Second}

const containerID = "c1"

// newRig starts one. With hostPids the container has no pid namespace.
func newRig(t *testing.T, hostPids bool) *rig {
	t.Helper()
	return newLimitedRig(t, hostPids, testLimits)
}

func newLimitedRig(t *testing.T, hostPids bool, limits Limits) *rig {
	t.Helper()
	return startRig(t, hostPids, limits, nil)
}

// startRig starts a rig; with left it is one that adopts the state that left returns.
// While left runs nothing is reaped, so that what dies stays a zombie. The first look
// for what is due comes before the first look for zombies: either may, in the command.
func startRig(t *testing.T, hostPids bool, limits Limits, left func(r *rig) *state.Shim) *rig {
	t.Helper()
	r := &rig{T: t, runtime: newFakeRuntime(t), daemon: &daemon{}, bundle: t.TempDir(), limits: limits}
	config := specs.Spec{Linux: &specs.Linux{}}
	if !hostPids {
		config.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.PIDNamespace}}
	}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.bundle, "config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	outbox := NewOutbox(r.daemon)
	r.sup = NewSupervisor(ctx, &proc.Env{
		Namespace: "test", Bundle: r.bundle, WorkDir: r.bundle,
		Reaper: testReaper, Monitor: reaper.NewMonitor(testReaper, reaper.DefaultLimits()),
		Limits: proc.DefaultLimits(), Streams: stdio.DefaultLimits(),
		NewRuntime: func(string) proc.Runtime { return r.runtime },
	}, outbox, r.limits)
	resume := func() {}
	if left != nil {
		testReaper.Pause()
		resume = sync.OnceFunc(testReaper.Resume)
		defer resume() // also if the test fails here
		r.sup.Adopt(r.ctx(), left(r))
	}
	exits := testReaper.Subscribe()
	if left != nil {
		r.sup.exits.round(exits)
	}
	ended := make(chan struct{}, 2)
	go func() { outbox.Run(ctx); ended <- struct{}{} }()
	go func() { r.sup.Run(exits); exits.Close(); ended <- struct{}{} }()
	resume()
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(Handshaker(r.sup)), ttrpc.WithUnaryServerInterceptor(Interceptor))
	if err != nil {
		t.Fatal(err)
	}
	api.RegisterShimService(server, NewService(r.sup))
	r.socket = filepath.Join(r.bundle, "s")
	l, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	served := calling(func() error { return server.Serve(ctx, l) })
	r.client = r.connect()
	t.Cleanup(func() {
		// End what lives, and see its exit published: nothing may be left.
		r.daemon.refuseBy(nil)
		if init, err := r.sup.container(); err == nil {
			killed := calling(func() error { return init.Destroy(ctx) })
			receive(t, "end of the container", killed)
			if init.Child() != nil {
				receive(t, "exit of the container", r.sup.exits.over)
			}
		}
		r.runtime.mu.Lock()
		for _, p := range r.runtime.execs {
			_ = p.gate.Close() // a test may have closed it
		}
		r.runtime.mu.Unlock()
		for _, p := range r.children {
			_ = p.gate.Close() // a test may have closed it
		}
		eventually(t, "the end of all execs", func() bool {
			return len(r.sup.exits.close()) == 0
		})
		// A refused exec is not among those; its exit must not reach the next test.
		eventually(t, "the end of all children", func() bool { return noChildren() == nil })
		cancel()
		_ = server.Close() // closes the listener, too
		receive(t, "end of the server", served)
		receive(t, "end of the outbox or of the exits", ended)
		receive(t, "end of the other", ended)
	})
	return r
}

// spawn starts a child that lives until its gate is closed; its pid is in the bundle's
// file of that name.
func (r *rig) spawn(pidFile string) *fakeProcess {
	r.Helper()
	return r.spawnOn(nil, pidFile)
}

func (r *rig) spawnOn(stdout *os.File, pidFile string) *fakeProcess {
	r.Helper()
	p, err := spawnOn(stdout, []string{"wait", "0"}, filepath.Join(r.bundle, pidFile))
	r.must(err)
	r.children = append(r.children, p)
	return p
}

// connect returns one more client.
func (r *rig) connect() api.ShimService {
	r.Helper()
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		r.Fatal(err)
	}
	c := ttrpc.NewClient(conn)
	r.Cleanup(func() { _ = c.Close() }) // a test may have closed it
	return api.NewShimClient(c)
}

// ctx bounds one call.
func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(r.Context(), soon)
	r.Cleanup(cancel)
	return ctx
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) create() *api.CreateTaskResponse {
	r.Helper()
	resp, err := r.client.Create(r.ctx(), r.createRequest())
	r.must(err)
	return resp
}

func (r *rig) createRequest() *api.CreateTaskRequest {
	return &api.CreateTaskRequest{ID: containerID, Bundle: r.bundle, Runtime: "fake"}
}

// run creates and starts the container, and then asks for the State as a daemon
// does. It returns the pid.
func (r *rig) run() int {
	r.Helper()
	resp := r.create()
	r.start(containerID)
	return int(resp.Pid)
}

func (r *rig) start(id string) int {
	r.Helper()
	resp, err := r.client.Start(r.ctx(), &api.StartRequest{ID: id})
	r.must(err)
	r.state(id)
	return int(resp.Pid)
}

func (r *rig) state(id string) *api.StateResponse {
	r.Helper()
	resp, err := r.client.State(r.ctx(), &api.StateRequest{ID: id})
	r.must(err)
	return resp
}

func (r *rig) exec(id string, args ...string) error {
	spec, err := json.Marshal(specs.Process{Args: args, Cwd: "/"})
	if err != nil {
		return err
	}
	_, err = r.client.Exec(r.ctx(), &api.ExecProcessRequest{ID: id, Spec: &anypb.Any{Value: spec}})
	return err
}

// execRun adds and starts an exec.
func (r *rig) execRun(id string, args ...string) int {
	r.Helper()
	r.must(r.exec(id, args...))
	return r.start(id)
}

func (r *rig) wait(id string) *api.WaitResponse {
	r.Helper()
	resp, err := r.client.Wait(r.ctx(), &api.WaitRequest{ID: id})
	r.must(err)
	return resp
}

func (r *rig) kill(id string, sig uint32) error {
	_, err := r.client.Kill(r.ctx(), &api.KillRequest{ID: id, Signal: sig})
	return err
}

func (r *rig) delete() (*api.DeleteResponse, error) {
	return r.client.Delete(r.ctx(), &emptypb.Empty{})
}

// published waits for n exits, and returns the ids of all in order.
func (r *rig) published(n int) []string {
	r.Helper()
	eventually(r.T, "events", func() bool { return len(r.daemon.taken()) >= n })
	return r.daemon.ids()
}

// never reports whether c stays open for d, in which it would have been closed
// if anything were wrong.
func never(c <-chan struct{}, d time.Duration) bool {
	select {
	case <-c:
		return false
	case <-time.After(d):
		return true
	}
}
