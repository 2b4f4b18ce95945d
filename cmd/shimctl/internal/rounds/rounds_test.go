// SPDX-License-Identifier: Apache-2.0

package rounds

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
)

// host is a /proc with a stopped v1 shim, pid 7, and a v2 shim, pid 8.
func host(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"2/stat":    "2 (kthreadd) S 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0\n",
		"7/stat":    "7 (containerd-shim) T 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 9 0 99 0 0\n",
		"7/cmdline": "containerd-shim\x00-namespace\x00moby\x00-workdir\x00/x/moby/abc\x00",
		"8/stat":    "8 (containerd-shim) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 9 0 99 0 0\n",
		"8/cmdline": "containerd-shim-runc-v2\x00-namespace\x00moby\x00-id\x00def\x00",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// What one run has seen counts in the next one.
func TestSampleRemembers(t *testing.T) {
	now := time.Unix(1700000000, 0)
	state := filepath.Join(t.TempDir(), "new", "check.json")
	for run := range 2 {
		c := Checker{Proc: host(t), Now: func() time.Time { return now }, Samples: 2, State: Always, StateFile: state}
		r, err := c.Sample(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Rows) != 1 || r.V2 != 1 || !r.Time.Equal(now) || r.Count(health.Suspect) != 1 || r.Rows[0].Result.Reason != health.Stopped {
			t.Errorf("run %d: got %+v", run, r)
		}
		if m, err := health.Load(state); err != nil || len(m) != 1 || m[7] == nil {
			t.Errorf("run %d: the state file has %v, %v", run, m, err)
		}
	}
}

func TestLookRefusesTheV2ShimThatIsNamed(t *testing.T) {
	c := Checker{Proc: host(t), Now: time.Now, Memory: health.Memory{}}
	if _, err := c.Look(t.Context(), []string{"8"}); err == nil || !strings.Contains(err.Error(), "is a v2 shim") {
		t.Errorf("got %v", err)
	}
}

// deaf is a shim that answers ShimInfo alone.
type deaf struct{ shimapi.ShimService }

func (deaf) ShimInfo(context.Context, *emptypb.Empty) (*shimapi.ShimInfoResponse, error) {
	return &shimapi.ShimInfoResponse{}, nil
}

func (deaf) State(ctx context.Context, _ *shimapi.StateRequest) (*shimapi.StateResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// mute gives no dump, and counts how often it was asked.
type mute struct{ asked atomic.Int32 }

func (m *mute) Take(context.Context, *scan.Shim, stacks.Method, time.Duration) (*stacks.Result, error) {
	m.asked.Add(1)
	return nil, errors.New("no dump")
}

// TestADumpThatDoesNotComeIsWaitedForOnce: two waits took longer than node-problem-detector lets a
// plug-in run, and the whole node's wedged shims went unseen.
func TestADumpThatDoesNotComeIsWaitedForOnce(t *testing.T) {
	root := serving(t, deaf{})
	m := new(mute)
	c := Checker{Proc: root, Now: time.Now, Limit: 300 * time.Millisecond, Confirm: true, State: Always, Stacks: m, Memory: health.Memory{}}
	r, err := c.Look(t.Context(), []string{"7"})
	if err != nil || !r.Rows[0].Answers.State.TimedOut {
		t.Errorf("got %+v, %v", r, err)
	}
	if n := m.asked.Load(); n != 1 {
		t.Errorf("it was asked for a dump %d times", n)
	}
}

// serving is a host whose v1 shim, pid 7, runs, and is that service.
func serving(t *testing.T, service shimapi.ShimService) (root string) {
	t.Helper()
	root = host(t)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	shimapi.RegisterShimService(server, service)
	go func() { _ = server.Serve(t.Context(), l) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	bundle := filepath.Join(root, "7", "cwd")
	stat := "7 (containerd-shim) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 9 0 99 0 0\n"
	if err := errors.Join(os.Mkdir(bundle, 0o700), os.WriteFile(filepath.Join(bundle, "address"), []byte("unix://"+socket), 0o600),
		os.WriteFile(filepath.Join(root, "7", "stat"), []byte(stat), 0o600)); err != nil {
		t.Fatal(err)
	}
	return root
}

// patient is a shim that answers ShimInfo alone, and tells when State has been asked.
type patient struct {
	deaf
	asked func()
}

func (p patient) State(ctx context.Context, r *shimapi.StateRequest) (*shimapi.StateResponse, error) {
	p.asked()
	return p.deaf.State(ctx, r)
}

// TestLookIsInterrupted: a shim that was asked when the signal came is none that does not answer.
func TestLookIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	state := filepath.Join(t.TempDir(), "check.json")
	c := Checker{Proc: serving(t, patient{asked: cancel}), Now: time.Now, Limit: 10 * time.Second, State: Always, StateFile: state}
	if r, err := c.Sample(ctx, []string{"7"}); r != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is remembered: %v", err)
	}
}

// An interrupt ends the wait for the next sample.
func TestSampleIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := Checker{Proc: host(t), Now: time.Now, Samples: 2, Interval: time.Hour}
	if _, err := c.Sample(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
