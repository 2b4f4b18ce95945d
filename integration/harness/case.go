// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/sweep"
	"containerd-shim.v1/integration/harness/wait"
)

// Config is what all cases of a run share.
type Config struct {
	Shim    string // the binary under test
	V2      bool   // it is a v2 shim
	Runtime string // the real OCI runtime
	Helper  string // a static executable that calls helper.Dispatch
	RunDir  string // the run's directory below Root

	bootstrap bool  // of a v2 shim: see launch.Bootstraps
	halt      *halt // shared by all copies
}

// halt is closed when the run is interrupted.
type halt struct {
	once sync.Once
	c    chan struct{}
}

// Interrupt ends the cases that run, and those that are begun later, as
// Broken. Each of them cleans up after itself as usual.
func (cfg Config) Interrupt() { cfg.halt.once.Do(func() { close(cfg.halt.c) }) }

// Interrupted reports whether Interrupt was called.
func (cfg Config) Interrupted() bool {
	select {
	case <-cfg.halt.c:
		return true
	default:
		return false
	}
}

// Verdict is the outcome of a case.
type Verdict string

// The verdicts. Broken means that the harness could not judge.
const (
	Pass   Verdict = "pass"
	Fail   Verdict = "fail"
	Broken Verdict = "broken"
)

// Result is the outcome of a case.
type Result struct {
	Verdict  Verdict
	Messages []string
	Log      []string
	Stacks   string // of the shim, when a call to it was not answered
	Duration time.Duration
	Samples  []time.Duration // how long single operations took, where a check measures them
}

// Case is one check with everything that belongs to it.
type Case struct {
	Config
	Dir string // holds all files of the case

	building sync.Mutex // held while a fixture is made

	mu       sync.Mutex // guards the following
	result   Result
	over     bool // there is a verdict: the check must not continue
	fixtures []*Fixture
	extra    []int // processes of OwnPid
	started  time.Time
}

// lastWords is how long a check that is over may take to notice it: its shims
// are dead by then, so its calls have returned.
const lastWords = 10 * time.Second

// Run gives check a case of its own and at most limit of time, and cleans up
// whatever it left.
func Run(cfg Config, name string, limit time.Duration, check func(*Case)) Result {
	c := &Case{Config: cfg, Dir: filepath.Join(cfg.RunDir, name), started: time.Now()}
	c.result.Verdict = Pass
	if err := os.MkdirAll(c.Dir, 0o711); err != nil {
		return Result{Verdict: Broken, Messages: []string{err.Error()}}
	}
	done := make(chan struct{}) // closed by the check's goroutine, also on Goexit
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				c.fail(Broken, fmt.Sprintf("the check panicked: %v", p))
			}
		}()
		check(c)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		c.fail(Fail, fmt.Sprintf("not finished within %v", limit))
	case <-cfg.halt.c:
		c.fail(Broken, "interrupted")
	}
	c.end(done)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Duration = time.Since(c.started)
	return c.result
}

// end stops the check, if it still runs, and cleans up.
func (c *Case) end(done <-chan struct{}) {
	c.mu.Lock()
	c.over = true
	failed := c.result.Verdict == Fail
	c.mu.Unlock()
	c.building.Lock()   // a fixture that was begun has its shim now, and no more are begun
	c.building.Unlock() //nolint:staticcheck // nothing is to be done in between
	c.mu.Lock()
	fixtures := c.fixtures
	c.mu.Unlock()
	for _, b := range fixtures {
		if failed {
			c.explain(b)
		}
		b.endShim()
	}
	select {
	case <-done:
	case <-time.After(lastWords):
		c.add(Broken, fmt.Sprintf("the check itself still runs %v after its end", lastWords))
	}
	for _, b := range fixtures {
		b.close()
	}
	c.killExtra()
	if err := sweep.Clean(c.Dir); err != nil {
		c.add(Broken, "clean up: "+err.Error())
	}
}

// goOn ends the check's goroutine if there is a verdict already.
func (c *Case) goOn() {
	if c.isOver() {
		runtime.Goexit()
	}
}

func (c *Case) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// explain adds what the shim itself says to a failed case.
func (c *Case) explain(b *Fixture) {
	if b.Shim == nil {
		return
	}
	text := b.Shim.Output()
	if status, dead := b.Shim.Exited(); dead {
		c.Logf("the shim had ended: %s", status)
		c.Logf("its last output: %s", tail(text, 2000))
		return
	}
	stacks, err := b.Shim.Stacks(3 * time.Second)
	if err != nil {
		c.Logf("no stacks: %v", err)
	}
	c.mu.Lock()
	c.result.Stacks += stacks
	c.mu.Unlock()
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// fail records a verdict, unless there is one: what a check says about a shim that
// the harness has killed is not the shim's fault.
func (c *Case) fail(v Verdict, message string) {
	if !c.isOver() {
		c.add(v, message)
	}
}

func (c *Case) add(v Verdict, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.result.Verdict == Pass { // what comes after a verdict may be its consequence
		c.result.Verdict = v
	}
	c.result.Messages = append(c.result.Messages, message)
}

// Errorf records a fault of the shim, and continues.
func (c *Case) Errorf(format string, args ...any) { c.fail(Fail, fmt.Sprintf(format, args...)) }

// Fatalf records a fault of the shim, and ends the check.
func (c *Case) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	runtime.Goexit()
}

// Need ends the check as Broken if err is not nil. It is for what the harness
// itself has to do.
func (c *Case) Need(err error, what string) {
	c.goOn()
	if err == nil {
		return
	}
	c.fail(Broken, what+": "+err.Error())
	runtime.Goexit()
}

// Must ends the check if err is not nil, which is the shim's fault.
func (c *Case) Must(err error, what string) {
	c.goOn()
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
}

// Await ends the check if cond does not become true within d.
func (c *Case) Await(d time.Duration, what string, cond func() bool) {
	err := wait.For(d, what, func() bool { return c.isOver() || cond() })
	c.goOn()
	if err != nil {
		c.Fatalf("%v", err)
	}
}

// Prompt ends the check if err says that a call was not answered, and returns err
// otherwise.
func (c *Case) Prompt(err error) error {
	var stuck *client.Stuck
	if errors.As(err, &stuck) {
		c.Fatalf("%v", err)
	}
	return err
}

// Logf records a fact for the report.
func (c *Case) Logf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Log = append(c.result.Log, fmt.Sprintf("%7.3fs ", time.Since(c.started).Seconds())+fmt.Sprintf(format, args...))
}

// Sample records how long one operation took.
func (c *Case) Sample(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Samples = append(c.result.Samples, d)
}

// Never ends the check if cond is true at any time within d: that something never
// happens can only be tested for as long as one is willing to wait.
func (c *Case) Never(d time.Duration, what string, cond func() bool) {
	err := wait.For(d, what, func() bool { return c.isOver() || cond() })
	c.goOn()
	if err == nil {
		c.Fatalf("%s", what)
	}
}
