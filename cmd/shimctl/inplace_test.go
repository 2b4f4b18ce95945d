// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
	"containerd-shim.v1/internal/state"
)

// looked is what a look at a running shim finds, and the state that it writes.
func looked(t *testing.T, shim *shimtest.Shim, wedged bool) (*takeover.Outcome, *state.Shim) {
	t.Helper()
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	file := filepath.Join(t.TempDir(), "state")
	o, err := underTest().tracer().Run(t.Context(), &s, takeover.Request{StateFile: file, Wedged: wedged}, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if o.Error != "" {
		t.Fatalf("look: %s", o.Error)
	}
	st, err := state.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return o, st
}

// client is one that runs an exec from its creation to its deletion, as a daemon does.
type client struct {
	id     string
	status int
	late   bool // the process ends when it is told
}

// spec is an exec that ends with the status.
func (c *client) spec() []byte {
	steps := fmt.Sprintf(`"exit:%d"`, c.status)
	if c.late {
		steps = fmt.Sprintf(`"term:%d","sleep"`, c.status)
	}
	return fmt.Appendf(nil, `{"user":{"uid":0,"gid":0},"args":["testinit",%s],"cwd":"/"}`, steps)
}

func (c *client) finish(ctx context.Context, api shimapi.ShimService) error {
	w, err := api.Wait(ctx, &shimapi.WaitRequest{ID: c.id})
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if int(w.ExitStatus) != c.status {
		return fmt.Errorf("status %d, want %d", w.ExitStatus, c.status)
	}
	d, err := api.DeleteProcess(ctx, &shimapi.DeleteProcessRequest{ID: c.id})
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if int(d.ExitStatus) != c.status {
		return fmt.Errorf("deleted with status %d, want %d", d.ExitStatus, c.status)
	}
	return nil
}

func (c *client) start(ctx context.Context, api shimapi.ShimService) error {
	if _, err := api.Start(ctx, &shimapi.StartRequest{ID: c.id}); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if _, err := api.State(ctx, &shimapi.StateRequest{ID: c.id}); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return c.finish(ctx, api)
}

// background runs f as one of the clients whose errors are asked for at the end.
func background(wg *sync.WaitGroup, t *testing.T, c *client, f func() error) {
	wg.Go(func() {
		if err := f(); err != nil {
			t.Errorf("%s: %v", c.id, err)
		}
	})
}

func TestLookIdle(t *testing.T) {
	for _, version := range builds("v1.1.2", "v1.2.0", "v1.2.6", "v1.2.13", "v1.6.38", "v1.7.35", "debian") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			if err := shim.Exec(t.Context(), "e1"); err != nil {
				t.Fatal(err)
			}
			spec := `{"user":{"uid":0,"gid":0,"umask":18},"args":["testinit","exit:3"],"cwd":"/"}`
			if err := shim.Create(t.Context(), "created", []byte(spec)); err != nil {
				t.Fatal(err)
			}
			o, st := looked(t, shim, false)
			t.Logf("stood still for %v", o.Stopped)
			if o.Report.Processes != 2 || o.Report.Unknown != 0 || len(o.Report.Requests) != 0 {
				t.Errorf("got %+v", o.Report)
			}
			if st.Container.Pid != shim.InitPID || st.Container.Phase != state.Running || len(st.Execs) != 2 {
				t.Errorf("got %+v", st)
			}
			for _, e := range st.Execs {
				if e.ID == "created" && (e.Phase != state.Created || string(e.Spec) != spec) {
					t.Errorf("got %+v %s", e, e.Spec)
				}
				if e.ID == "e1" && (e.Phase != state.Running || e.Pid == 0) {
					t.Errorf("got %+v", e)
				}
			}
			if err := shim.ExecOnce(t.Context(), "after"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Two execs run, and a client waits for each.
func TestLookWaits(t *testing.T) {
	for _, version := range builds("v1.1.2", "v1.2.0", "v1.2.6", "v1.2.13", "v1.6.38", "v1.7.35", "debian") {
		t.Run(version, func(t *testing.T) {
			shim, _, wg, clients := withWaits(t, version)
			o, st := looked(t, shim, false)
			if fmt.Sprint(o.Report.Requests) == "" || len(st.Connections) != 1 || len(st.Connections[0].Requests) != 2 {
				t.Errorf("got %+v, %+v", o.Report, st.Connections)
			}
			for _, r := range o.Report.Requests {
				if r.Method != "Wait" || r.ID != "e1" && r.ID != "e2" || !r.Answered {
					t.Errorf("got %+v", r)
				}
			}
			endLate(t, shim, clients)
			wg.Wait()
		})
	}
}

// wedgedWith makes the ring with n clients of each kind in it, and returns what waits for them.
func wedgedWith(t *testing.T, shim *shimtest.Shim, n int) (wg *sync.WaitGroup, clients []*client) {
	t.Helper()
	wg = new(sync.WaitGroup)
	add := func(kind string, late bool) *client {
		c := &client{id: kind + strconv.Itoa(len(clients)), status: 1 + len(clients)%200, late: late}
		clients = append(clients, c)
		return c
	}
	ctx := t.Context()
	var created []*client
	for range n {
		c := add("created", false)
		if err := shim.Create(ctx, c.id, c.spec()); err != nil {
			t.Fatal(err)
		}
		created = append(created, c)
		runs := add("runs", true)
		if err := shim.ExecSpec(ctx, runs.id, runs.spec()); err != nil {
			t.Fatal(err)
		}
		background(wg, t, runs, func() error { return runs.finish(ctx, shim.API) })
	}
	shim.Wedge(t)
	for _, c := range created {
		background(wg, t, c, func() error { return c.start(ctx, shim.API) })
	}
	for range n {
		c := add("new", false)
		background(wg, t, c, func() error {
			if err := shim.Create(ctx, c.id, c.spec()); err != nil {
				return fmt.Errorf("exec: %w", err)
			}
			return c.start(ctx, shim.API)
		})
	}
	return wg, clients
}
