// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
)

const (
	// commandLimit bounds one ctr or docker command; most take a tenth of a second.
	commandLimit = 60 * time.Second
	debianShim   = "/usr/bin/containerd-shim"
)

// shared is the Rig of all tests except those that kill its daemons.
var shared *Rig

// shimUnderTest returns the path in SHIM, or that of the shim that `make build` makes.
func shimUnderTest() string {
	if s := os.Getenv("SHIM"); s != "" {
		return s
	}
	return filepath.Join("..", "..", "bin", "containerd-shim")
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	fail := func(what string, err error) {
		if err != nil {
			fmt.Fprintf(os.Stderr, "FAIL: %s: %v\n", what, err)
			code = 1
		}
	}
	r, err := New(shimUnderTest())
	if err != nil {
		fail("set up", err)
		return 1
	}
	if os.Getenv(toBeKilled) != "" {
		return live(r)
	}
	shared = r
	// A ^C must not leave daemons and containers behind. The commands of the
	// running test are in our process group and end with it.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-interrupted
		fail("interrupted; clean up", errors.Join(r.Close(), private.closeAll()))
		os.Exit(1)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 2*startLimit)
	defer cancel()
	if err := errors.Join(r.StartContainerd(ctx), r.StartDockerd(ctx)); err != nil {
		fail("start the daemons", err)
	} else {
		fmt.Printf("shim under test: %s\n", r.Bin)
		code = m.Run()
	}
	fail("final census", r.Close())
	return code
}

// private holds the Rigs of tests that are under way, for a ^C to close.
var private rigs

type rigs struct {
	mu   sync.Mutex
	open []*Rig
}

func (p *rigs) add(r *Rig) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = append(p.open, r)
}

func (p *rigs) remove(r *Rig) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = slices.DeleteFunc(p.open, func(o *Rig) bool { return o == r })
}

func (p *rigs) closeAll() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.open {
		err = errors.Join(err, r.Close())
	}
	return err
}

// ownRig starts a Rig for a test that kills its daemons. The census is taken at the end
// of the test.
func ownRig(t *testing.T) *Rig {
	t.Helper()
	r := idleRig(t, shimUnderTest())
	if err := r.StartContainerd(limited(t, 2*startLimit)); err != nil {
		t.Fatal(err)
	}
	return r
}

// idleRig is ownRig before its containerd is started, with any shim.
func idleRig(t *testing.T, shim string) *Rig {
	t.Helper()
	r, err := New(shim)
	if err != nil {
		t.Fatal(err)
	}
	private.add(r)
	t.Cleanup(func() {
		private.remove(r)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// limited returns the test's context with a deadline.
func limited(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// quiet fails the test if anything of the Rig is left after the test's own clean-ups,
// apart from what an earlier test has left, and was blamed for. It must be called
// before other clean-ups are registered, because they run in reverse order.
func quiet(t *testing.T, r *Rig) {
	t.Helper()
	old, err := r.Leftovers()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := r.settled(old...)
		if err != nil {
			t.Error(err)
		}
		for _, l := range left {
			t.Errorf("left behind: %s", l)
		}
	})
}

// result is how a command of a client ended.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit %d, stdout %q, stderr %q", r.code, clip(r.stdout), clip(r.stderr))
}

func clip(s string) string {
	if len(s) > 500 {
		return s[:500] + "..."
	}
	return s
}

// do runs a command that may fail. It fails the test only if the command cannot be run
// or is killed.
func do(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0) {
		t.Fatalf("%v: %v: %s", cmd.Args, err, stderr.String())
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must runs a command that must succeed, and returns its trimmed output.
func must(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	r := do(t, cmd)
	if r.code != 0 {
		t.Fatalf("%s: %v", strings.Join(cmd.Args[1:], " "), r)
	}
	return strings.TrimSpace(r.stdout)
}

// eventually fails the test unless cond holds within limit.
func eventually(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	if !wait.Until(limit, cond) {
		t.Fatalf("not within %v: %s", limit, what)
	}
}

// background returns a context for clean-ups, in which the test's context has ended.
func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	t.Cleanup(cancel)
	return ctx
}

func itoa(n int) string { return strconv.Itoa(n) }

func touch(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
