// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// Bench is a flood or a storm that measures instead of judging: it ends with figures
// even if the shim hangs.
type Bench struct {
	N      int           // execs of a flood or beside a kill, orphans of a storm
	Limit  time.Duration // for all execs together
	Settle time.Duration // for the next late exit; a third of it for each step of the dump
	Dumps  string        // the directory to which a patched shim of upstream's writes its dumps

	c      *harness.Case
	b      *harness.Fixture
	figure Figures
	probe  *sampler
}

// Figures are what a Bench has measured.
type Figures struct {
	Failed, Lost      int           // execs that failed, and exits that were not published, once and with their status
	Late, State, Wall time.Duration // longest time from a process's end to Wait's answer; longest State; total
	Pending           bool          // the longest State had no answer yet
	Hung, Gone        bool          // State is not answered afterwards; it fails, mostly because the shim has ended
	Dump              bool          // was written to a file
	Errors            []string      // the first few errors, of execs and of what is Lost or Gone
	Stacks            string        // of a shim that hangs
}

const (
	// stallTime is how long a shim may answer nothing at all before it is given up.
	stallTime = 20 * time.Second
	// hungTime bounds the State call that decides whether the shim hangs.
	hungTime = 10 * time.Second
	// execStatus is that with which the execs end.
	execStatus = 7
	// stormTime bounds the wait for the orphans to be reaped before the slow exec
	// goes on. A shim that has the bug reaps none of them meanwhile.
	stormTime = 3 * time.Second
)

// Flood runs N execs at once.
func (m Bench) Flood(c *harness.Case) Figures {
	m.begin(c, up(c))
	begun := time.Now()
	m.collect(m.N, m.start(m.N))
	m.figure.Wall = time.Since(begun)
	return m.end(m.N)
}

// Storm kills N orphans of a container in the host's pid namespace at once while runc
// is slow to start one exec, which must start and end all the same.
func (m Bench) Storm(c *harness.Case) Figures {
	b := upWith(c, hostPid(orphans(m.N), gated("exec", "/e0.pid", "slow")))
	m.begin(c, b)
	pids := brood(c, b, m.N)
	slow := m.start(1)
	c.Await(m.Limit, "runc exec runs", func() bool { return b.Fake.Arrived("slow") > 0 })
	begun := time.Now()
	killEach(pids)
	wait.Until(stormTime, func() bool { return len(procfs.Children(b.Shim.Pid)) < m.N/10 })
	open(c, b.Fake.Gate("slow"))
	m.collect(1, slow)
	m.figure.Wall = time.Since(begun)
	return m.end(1)
}

// begin measures a shim from now on by State of a container that runs.
func (m *Bench) begin(c *harness.Case, b *harness.Fixture) {
	m.c, m.b = c, b
	m.probe = newSampler(func() error { _, err := b.Within(m.patience()).State(b.ID); return err })
}

// patience is longer than any wait here.
func (m *Bench) patience() time.Duration { return 2*m.Limit + m.Settle + time.Minute }

// ended says how an exec has ended.
type ended struct {
	late time.Duration // from the process's end to Wait's answer
	err  error
}

// start begins n execs, which first do steps, and returns a channel that gets the end of each.
func (m *Bench) start(n int, steps ...string) <-chan ended {
	ends := make(chan ended, n) // room for all: if the shim hangs nobody receives the last ones
	for i := range n {
		go func() { ends <- m.exec(fmt.Sprintf("e%d", i), steps) }()
	}
	return ends
}

// collect takes the ends of n execs, until the shim has stalled.
func (m *Bench) collect(n int, ends <-chan ended) {
	stalled := m.stalled()
	m.figure.Failed = n
	for range n {
		select {
		case e := <-ends:
			m.figure.Late = max(m.figure.Late, e.late)
			if e.err == nil {
				m.figure.Failed--
			} else if len(m.figure.Errors) < 3 {
				m.figure.Errors = append(m.figure.Errors, e.err.Error())
			}
		case <-stalled:
			return
		}
	}
}

// exec runs a process that does steps and notes the time of its end. Its calls carry no deadline,
// which would make a shim of upstream's kill its runc.
func (m *Bench) exec(id string, steps []string) ended {
	by := m.b.Within(m.patience())
	by.Caller = noting{by.Caller, m.probe}
	status, err := m.b.RunExec(by, id, slices.Concat(steps, []string{"stamp:/" + id + ".end", fmt.Sprint("exit:", execStatus)})...)
	answered := time.Now()
	if err == nil && status != execStatus {
		err = fmt.Errorf("exec %s: exit status %d, want %d", id, status, execStatus)
	}
	if err != nil {
		return ended{err: err}
	}
	text, err := os.ReadFile(filepath.Join(m.b.Rootfs, id+".end"))
	if err != nil {
		return ended{err: fmt.Errorf("Wait of %s was answered before the process had run: %w", id, err)}
	}
	ns, err := strconv.ParseInt(string(text), 10, 64)
	return ended{answered.Sub(time.Unix(0, ns)), err}
}

// stalled returns a channel that is closed when Limit is over, or when the shim has
// answered no call, not even State, for stallTime.
func (m *Bench) stalled() <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		wait.Until(m.Limit, func() bool { return time.Since(m.probe.answered()) > stallTime })
	}()
	return c
}

// settle waits until the daemon has the exits of n execs, or no more has come for Settle.
// An exit that is late is not lost: v1.1.2 forks a publisher for each, one after the
// other, which takes a while on a busy host.
func (m *Bench) settle(n int) {
	most, grown := 0, time.Now()
	wait.Until(m.Limit, func() bool {
		seen, _ := published(m.b.Daemon.Events())
		if seen > most {
			most, grown = seen, time.Now()
		}
		return seen >= n || time.Since(grown) >= m.Settle
	})
}

// published returns the number of execs whose exit the daemon has, and says of which it has
// anything but one, with execStatus.
func published(events []fakedaemon.Event) (seen int, wrong []string) {
	statuses := map[string][]uint32{}
	for _, e := range events {
		if id := e.Exit.GetID(); strings.HasPrefix(id, "e") {
			statuses[id] = append(statuses[id], e.Exit.GetExitStatus())
		}
	}
	for _, id := range slices.Sorted(maps.Keys(statuses)) {
		if !slices.Equal(statuses[id], []uint32{execStatus}) {
			wrong = append(wrong, fmt.Sprintf("exit events of %s: statuses %d, want one of %d", id, statuses[id], execStatus))
		}
	}
	return len(statuses), wrong
}

// end waits for the exits of n execs, finds out whether the shim hangs, asks it for a
// dump, counts the exits, since an exit that comes again comes later, and returns all
// figures.
func (m *Bench) end(n int) Figures {
	f := &m.figure
	m.settle(n)
	f.State, f.Pending = m.probe.end()
	_, err := m.b.Within(hungTime).State(m.b.ID)
	var stuck *client.Stuck
	f.Hung = errors.As(err, &stuck)
	if f.Gone = err != nil && !f.Hung; f.Gone {
		f.Errors = append(f.Errors, "State afterwards: "+err.Error())
	}
	asked := time.Now()
	stacks, err := m.b.Shim.Stacks(m.Settle / 3)
	if f.Hung && err == nil {
		f.Stacks = stacks
	}
	f.Dump = wait.Until(m.Settle/3, func() bool { return m.dumped(asked) })
	seen, wrong := published(m.b.Daemon.Events())
	f.Lost = n - seen + len(wrong)
	f.Errors = append(f.Errors, wrong[:min(len(wrong), 3)]...)
	return *f
}

// dumped reports whether the shim has written a dump to a file since then: this
// project's shim in the fixture's directory, a patched one of upstream's in Dumps, from
// where it is removed.
func (m *Bench) dumped(since time.Time) bool {
	const clockTick = 50 * time.Millisecond // more than a file's time can lag behind the clock
	ours, _ := filepath.Glob(filepath.Join(m.b.Path("stacks"), "[^.]*.stacks"))
	theirs, _ := filepath.Glob(filepath.Join(m.Dumps, "*-"+strconv.Itoa(m.b.Shim.Pid)+".txt"))
	for _, f := range theirs {
		info, err := os.Lstat(f)
		if err != nil || info.Mode() != 0o600 || info.ModTime().Before(since.Add(-clockTick)) {
			continue // no dump, or that of an earlier shim with this pid
		}
		text, _ := os.ReadFile(f)
		if _, text, ok := strings.Cut(string(text), "=== BEGIN goroutine stack dump ==="); ok && strings.Contains(text, "=== END") {
			return unix.Unlink(f) == nil
		}
	}
	return len(ours) > 0
}

// sampler makes a call again and again, and notes when it was answered.
type sampler struct {
	last atomic.Int64  // when the last answer came, in Unix nanoseconds
	done chan struct{} // closed by end

	mu      sync.Mutex // guards the following
	asked   time.Time  // when the open call was made; zero if none is open
	longest time.Duration
}

func newSampler(ask func() error) *sampler {
	s := &sampler{done: make(chan struct{})}
	s.note()
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			s.mu.Lock()
			s.asked = time.Now()
			s.mu.Unlock()
			err := ask()
			s.note()
			s.mu.Lock()
			s.longest, s.asked = max(s.longest, time.Since(s.asked)), time.Time{}
			s.mu.Unlock()
			if err != nil {
				return // the connection is closed
			}
			select {
			case <-s.done:
				return
			case <-tick.C:
			}
		}
	}()
	return s
}

// noting is a caller whose answers a sampler notes, too.
type noting struct {
	client.Caller
	by *sampler
}

func (n noting) Call(ctx context.Context, method string, req, resp proto.Message) error {
	defer n.by.note()
	return n.Caller.Call(ctx, method, req, resp)
}

func (s *sampler) note()               { s.last.Store(time.Now().UnixNano()) }
func (s *sampler) answered() time.Time { return time.Unix(0, s.last.Load()) }

// end stops the calls, and returns the longest time to an answer; open reports whether
// that call has no answer yet.
func (s *sampler) end() (longest time.Duration, open bool) {
	close(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked.IsZero() && time.Since(s.asked) > s.longest {
		return time.Since(s.asked), true
	}
	return s.longest, false
}
