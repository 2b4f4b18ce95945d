// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/protobuf/types/known/anypb"
)

// probeTimeout bounds the State call that decides whether the shim hangs.
const probeTimeout = 10 * time.Second

// stallTimeout is how long a shim may answer nothing at all before the flood is
// given up.
const stallTimeout = 20 * time.Second

// row is the outcome of one flood.
type row struct {
	name              string
	n, failed, lost   int
	late, state, wall time.Duration
	statePending      bool // the longest State had no answer yet
	hung, dump        bool
	errors            []string
}

func (r row) exitCode() int {
	switch {
	case r.failed > 0 || r.lost > 0 || r.hung:
		return exitFault
	case !r.dump:
		return exitNoDump
	}
	return exitSurvived
}

// String is the row in the table.
func (r row) String() string {
	more := ""
	if r.statePending {
		more = "> "
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %.1f s | %s%.1f s | %.1f s | %s | %s |", r.name, r.n, r.failed, r.lost,
		r.late.Seconds(), more, r.state.Seconds(), r.wall.Seconds(), yes(r.hung), yes(r.dump))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// flood runs n execs at once, then asks for State and a dump.
func (s *subject) flood() row {
	r := row{name: s.name, n: s.n}
	deadline := time.Now().Add(s.timeout)
	began := time.Now()
	probe := s.sampleState()

	results := make(chan result, s.n)
	for i := range s.n {
		go func() { results <- s.exec(fmt.Sprintf("e%d", i)) }()
	}
	stalled := s.stalled(deadline)
	seen := 0
collect:
	for seen < s.n {
		select {
		case res := <-results:
			seen++
			r.late = max(r.late, res.late)
			if res.err != nil {
				r.failed++
				if len(r.errors) < 3 {
					r.errors = append(r.errors, res.err.Error())
				}
			}
		case <-stalled:
			break collect
		}
	}
	r.failed += s.n - seen // no answer within the limit
	r.wall = time.Since(began)
	r.lost = s.n - s.awaitEvents(s.n, s.settle)
	r.state, r.statePending = probe()
	s.examine(&r)
	return r
}

// examine notes in r whether the shim hangs and whether a dump comes out.
func (s *subject) examine(r *row) {
	r.hung = !answersWithin(probeTimeout, func() { _, _ = s.api.State(context.Background(), &shimapi.StateRequest{ID: s.id}) })
	var ring string
	r.dump, ring = s.dump()
	if ring != "" {
		r.errors = append(r.errors, ring)
	}
}

// result of one exec.
type result struct {
	err  error
	late time.Duration // from the process's end to Wait's answer
}

// exec runs a process that notes its end and waits for it. Its calls carry no deadline: a
// ttrpc deadline would make the shim kill its runc.
func (s *subject) exec(id string) result { return s.execArgs(id, "exit", "/exits/"+id) }

func (s *subject) execArgs(id string, args ...string) result {
	ctx := context.Background()
	spec, err := json.Marshal(process(args...))
	if err != nil {
		return result{err: err}
	}
	_, err = s.api.Exec(ctx, &shimapi.ExecProcessRequest{ID: id, Spec: &anypb.Any{
		TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: spec,
	}})
	s.answered()
	if err != nil {
		return result{err: fmt.Errorf("exec %s: %w", id, err)}
	}
	_, err = s.api.Start(ctx, &shimapi.StartRequest{ID: id})
	s.answered()
	if err != nil {
		return result{err: fmt.Errorf("start %s: %w", id, err)}
	}
	w, err := s.api.Wait(ctx, &shimapi.WaitRequest{ID: id})
	answered := s.answered()
	if err == nil && w.ExitStatus != 0 {
		err = fmt.Errorf("exit status %d", w.ExitStatus)
	}
	if err != nil {
		return result{err: fmt.Errorf("wait %s: %w", id, err)}
	}
	stamp, err := os.ReadFile(filepath.Join(s.path("bundle"), "rootfs", "exits", id))
	if err != nil {
		return result{err: fmt.Errorf("wait %s answered before the process had run: %w", id, err)}
	}
	ns, err := strconv.ParseInt(string(stamp), 10, 64)
	return result{err: err, late: answered.Sub(time.Unix(0, ns))}
}

// sampleState asks for the State of init again and again. The function it
// returns ends that and tells the longest answer, also of a pending one.
func (s *subject) sampleState() func() (time.Duration, bool) {
	var mu sync.Mutex
	var longest time.Duration
	var asked time.Time // zero: no call is pending
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			mu.Lock()
			asked = time.Now()
			mu.Unlock()
			_, err := s.api.State(context.Background(), &shimapi.StateRequest{ID: s.id})
			s.answered()
			mu.Lock()
			longest = max(longest, time.Since(asked))
			asked = time.Time{}
			mu.Unlock()
			if err != nil {
				return // the connection is closed
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() (time.Duration, bool) {
		close(done)
		mu.Lock()
		defer mu.Unlock()
		if !asked.IsZero() && time.Since(asked) > longest {
			return time.Since(asked), true
		}
		return longest, false
	}
}

// answered notes that the shim has answered a call.
func (s *subject) answered() time.Time {
	now := time.Now()
	s.lastAnswer.Store(now.UnixNano())
	return now
}

// stalled is closed at the deadline, or when the shim has answered no call,
// State included, for stallTimeout.
func (s *subject) stalled(deadline time.Time) <-chan struct{} {
	s.answered()
	c := make(chan struct{})
	go func() {
		defer close(c)
		within(time.Until(deadline), func() bool { return time.Since(time.Unix(0, s.lastAnswer.Load())) > stallTimeout })
	}()
	return c
}

func answersWithin(d time.Duration, call func()) bool {
	done := make(chan struct{})
	go func() { call(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}
