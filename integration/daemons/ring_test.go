// SPDX-License-Identifier: Apache-2.0

//go:build baseline && ring

package daemons

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// setting returns the number or the duration in an environment variable.
func setting[T any](t *testing.T, name string, otherwise T, parse func(string) (T, error)) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	v, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

const (
	// ringSize is how many execs end at once: the channel takes 32 exits, and some are
	// dealt with before the ring closes.
	ringSize = 50
	// ringLimit bounds the wedging and the healing of one shim, and the answers to its
	// clients, on a machine at work.
	ringLimit = 4 * time.Minute
)

// ring is a shim of upstream's in the closed ring (B01), with clients that hang.
type ring struct {
	id      string
	shim    *Shim
	api     *Client
	gate    *wait.Gate     // of the first clients
	state   chan time.Time // when a State call, made in the ring, was answered
	clients []*hanging
	removed bool
}

// hanging is a `ctr tasks exec`.
type hanging struct {
	cmd    *exec.Cmd
	status int // that it must end with
	done   chan struct{}
}

// TestRing heals shims of v1.1.2 and v1.2.0 under real containerd and runc: each hanging
// ctr ends with its own exec's status and the container runs on. RUNS is how many shims of each
// release, CLIENTS how many hang in each. With AGE the clients are killed, and the shims
// stay in the ring for so long.
func TestRing(t *testing.T) {
	runs, clients := setting(t, "RUNS", 1, strconv.Atoi), setting(t, "CLIENTS", 2*ringSize, strconv.Atoi)
	age := setting(t, "AGE", 0, time.ParseDuration)
	r, use := theirs(t)
	for _, release := range []string{"v1.1.2", "v1.2.0"} {
		t.Run(release, func(t *testing.T) {
			use(release)
			quiet(t, r)
			var answered, took []time.Duration
			heal := func(g *ring) {
				a, b := g.heal(t, age == 0)
				answered, took = append(answered, a), append(took, b)
				g.lives(t, r)
			}
			var old []*ring
			for i := range runs {
				g := wedge(t, r, fmt.Sprint("ring", i), clients)
				if age == 0 {
					heal(g)
					continue
				}
				for _, c := range g.clients {
					_ = c.cmd.Process.Kill() // an error says that it has ended
					<-c.done
				}
				old = append(old, g)
			}
			if age > 0 {
				t.Logf("%d shims are in the ring", runs)
				select {
				case <-time.After(age):
				case <-t.Context().Done():
				}
			}
			for _, g := range old {
				heal(g)
			}
			for _, d := range [][]time.Duration{answered, took} {
				slices.Sort(d)
			}
			t.Logf("%d shims healed after %v, %d clients each; from the command to the answer to a call that hung: median %v, worst %v; the exchange itself: median %v, worst %v",
				runs, age, clients, answered[runs/2], answered[runs-1], took[runs/2], took[runs-1])
		})
	}
}

// wedge runs a container and makes the ring: ringSize execs end while the runc of another
// one is stopped. The other clients come afterwards.
func wedge(t *testing.T, r *Rig, id string, clients int) *ring {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 24*time.Hour) // the clients' end is the test's to see
	t.Cleanup(cancel)
	if err := r.Run(ctx, id, nil, "sleep", "100000"); err != nil {
		t.Fatal(err)
	}
	shim, err := r.Shim(r.Name, id)
	if err != nil {
		t.Fatal(err)
	}
	g := &ring{id: id, shim: shim, state: make(chan time.Time, 1)}
	t.Cleanup(func() {
		if !g.removed {
			t.Errorf("%s is destroyed: %v", id, r.Destroy(background(t), id))
		}
	})
	if g.gate, err = shim.gate(); err != nil {
		t.Fatal(err)
	}
	start := func(argv string) {
		n := len(g.clients)
		c := &hanging{status: 1 + n%120, done: make(chan struct{})}
		c.cmd = r.Ctr(ctx, "tasks", "exec", "--exec-id", fmt.Sprint("e", n), "--fifo-dir", r.path("fifo"), id, "sh", "-c", fmt.Sprintf(argv, c.status))
		if err := c.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { _ = c.cmd.Wait(); close(c.done) }() // its status is in ProcessState
		g.clients = append(g.clients, c)
	}
	// Many starts at once would close the ring by themselves.
	for range ringSize {
		start(": </gate; exit %d")
		eventually(t, ringLimit, "the exec is at the gate", func() bool { return atGate(shim) == len(g.clients) })
	}
	// One that is too fast is answered, and another one is started.
	var runc procfs.Process
	for runc.Pid == 0 {
		start("exit %d")
		c := g.clients[len(g.clients)-1]
		eventually(t, ringLimit, "its runc is at work, or it has ended", func() bool {
			for _, p := range procfs.Count(shim.Pid).Living {
				if isRunc(p) && strings.Contains(procfs.Command(p.Pid), " exec ") && p.Signal(syscall.SIGSTOP) == nil {
					runc = p
				}
			}
			select {
			case <-c.done:
				return true
			default:
				return runc.Pid != 0
			}
		})
	}
	t.Cleanup(func() { _ = runc.Signal(syscall.SIGCONT) }) // if it is there still
	if err := g.gate.Open(); err != nil {
		t.Fatal(err)
	}
	if g.api, err = shim.Dial(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.api.Close() })
	eventually(t, ringLimit, "State hangs", func() bool {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := g.api.State(ctx, &shimapi.StateRequest{ID: id})
		return err != nil
	})
	if err := runc.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	go func() {
		if _, err := g.api.State(ctx, &shimapi.StateRequest{ID: id}); err == nil {
			g.state <- time.Now()
		}
	}()
	for len(g.clients) < clients {
		start("exit %d")
	}
	eventually(t, ringLimit, "all clients hang in the closed ring", func() bool {
		said := do(t, shimctl(t, "repair", "-state-file", "", "-state", "always", "-binary", newShim(t), "-dir", t.TempDir(), itoa(shim.Pid))).stdout
		n := 0 // a client hangs in one of these; one State is the test's own
		for _, m := range regexp.MustCompile(`(\d+) (Exec|Start|State)\b`).FindAllStringSubmatch(said, -1) {
			i, _ := strconv.Atoi(m[1]) // they are digits
			n += i
		}
		return strings.Contains(said, "ReaperDeadlock") && n > len(g.clients)-over(g.clients)
	})
	for i, c := range g.clients {
		select {
		case <-c.done:
			t.Errorf("%s: client %d has ended before: %v", id, i, c.cmd.ProcessState)
		default:
		}
	}
	return g
}

// over counts the clients that have ended.
func over(clients []*hanging) (n int) {
	for _, c := range clients {
		select {
		case <-c.done:
			n++
		default:
		}
	}
	return n
}

// atGate counts the execs that have got to the gate.
func atGate(shim *Shim) (n int) {
	for _, p := range procfs.Count(shim.Pid).Living {
		if strings.Contains(procfs.Command(p.Pid), "</gate") && !isRunc(p) {
			n++
		}
	}
	return n
}

// isRunc reports whether the child of a shim is a call of the runtime.
func isRunc(p procfs.Process) bool { return strings.Contains(procfs.Command(p.Pid), " --log-format ") }

// heal repairs the shim, as an operator does, and returns the time from the start of the
// command to the answer to a call that hung, and that of the exchange as shimctl says it.
func (g *ring) heal(t *testing.T, clients bool) (answered, took time.Duration) {
	t.Helper()
	begun := time.Now()
	said := must(t, shimctl(t, "repair", "-yes", "-state-file", "", "-state", "always", "-binary", newShim(t), "-dir", t.TempDir(), itoa(g.shim.Pid)))
	m := regexp.MustCompile(`healed in place .*; took (\S+)`).FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("%s: %s", g.id, said)
	}
	took, err := time.ParseDuration(m[1])
	if err != nil {
		t.Fatal(err)
	}
	select {
	case at := <-g.state:
		answered = at.Sub(begun)
	case <-time.After(ringLimit):
		t.Fatalf("%s: State is not answered", g.id)
	}
	if !clients {
		return answered, took
	}
	right := 0
	for i, c := range g.clients {
		select {
		case <-c.done:
		case <-time.After(ringLimit):
			t.Fatalf("%s: client %d hangs", g.id, i)
		}
		if got := c.cmd.ProcessState.ExitCode(); got != c.status {
			t.Errorf("%s: client %d: exit %d, want %d", g.id, i, got, c.status)
			continue
		}
		right++
	}
	t.Logf("%s: %d of %d clients right, the last %v after the command; %s", g.id, right, len(g.clients), time.Since(begun).Round(time.Millisecond), said)
	return answered, took
}

// lives checks that the container runs, and ends it.
func (g *ring) lives(t *testing.T, r *Rig) {
	t.Helper()
	ctx := limited(t, ringLimit)
	got := do(t, r.Ctr(ctx, "tasks", "exec", "--exec-id", "next", "--fifo-dir", r.path("fifo"), g.id, "sh", "-c", "echo next; exit 5"))
	if got != (result{5, "next\n", ""}) {
		t.Errorf("%s: exec afterwards: %v", g.id, got)
	}
	if tasks := must(t, r.Ctr(ctx, "tasks", "ls")); !regexp.MustCompile(`(?m)^` + g.id + ` .*RUNNING`).MatchString(tasks) {
		t.Errorf("%s runs no more:\n%s", g.id, tasks)
	}
	if !wait.Until(settleLimit, func() bool { return len(procfs.Count(g.shim.Pid).Zombies) == 0 }) {
		t.Errorf("%s: zombies are left", g.id)
	}
	// The exec that closed the ring had its specification in a file, which the old program
	// would have removed.
	for _, l := range there("file", r.path("tmp", "runc-process*")) {
		_ = os.Remove(l.Path) // the census tells
	}
	_ = g.gate.Close() // it is in the container's root file system
	if err := r.Remove(ctx, g.id); err != nil {
		t.Fatal(err)
	}
	g.removed = true
}
