// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"

	"golang.org/x/sys/unix"
)

// startClaimed forks cmd and claims it, as a runc launcher would.
func startClaimed(t *testing.T, cmd *exec.Cmd) *Child {
	t.Helper()
	ticket := testReaper.Begin()
	defer ticket.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := ticket.Claim(cmd.Process.Pid, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Release()
	return c
}

func waitExit(t *testing.T, c *Child) Exit {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(20 * time.Second):
		t.Fatalf("no exit of pid %d", c.Pid())
	}
	return c.Wait()
}

// reapedAfter waits until the reaper has reaped n children more than from.
func reapedAfter(t *testing.T, from, n uint64) {
	t.Helper()
	if !wait.Until(20*time.Second, func() bool { return testReaper.Reaped() >= from+n }) {
		t.Fatalf("reaped %d of %d", testReaper.Reaped()-from, n)
	}
}

func TestExitStatusIsCodeOrSignal(t *testing.T) {
	for _, tc := range []struct {
		role, arg string
		want      int
	}{
		{"exit", "0", 0}, {"exit", "7", 7}, {"exit", "255", 255},
		{"die", "9", 137}, {"die", "15", 143}, {"die", "1", 129},
	} {
		before := time.Now()
		c := startClaimed(t, roleCmd(tc.role, tc.arg))
		e := waitExit(t, c)
		if e.Status != tc.want || e.Pid != c.Pid() {
			t.Errorf("%s %s: got %+v, want status %d of pid %d", tc.role, tc.arg, e, tc.want, c.Pid())
		}
		if e.At.Before(before) || e.At.After(time.Now()) {
			t.Errorf("exit at %v, not between start and now", e.At)
		}
	}
}

// B19: the process is dead and reaped before anybody knows its pid.
func TestExitBeforeClaimIsKept(t *testing.T) {
	ticket := testReaper.Begin()
	defer ticket.Close()
	from := testReaper.Reaped()
	cmd := roleCmd("exit", "9")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reapedAfter(t, from, 1)
	c, err := ticket.Claim(cmd.Process.Pid, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := waitExit(t, c); e.Status != 9 {
		t.Errorf("got %+v, want status 9", e)
	}
	if err := c.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after exit: got %v, want %v", err, os.ErrProcessDone)
	}
}

func TestClaimRefusesStrangersAndSecondOwners(t *testing.T) {
	ticket := testReaper.Begin()
	if _, err := ticket.Claim(1, time.Now(), nil); !errors.Is(err, ErrNotChild) {
		t.Errorf("claim of pid 1: got %v, want %v", err, ErrNotChild)
	}
	if _, err := ticket.Claim(-1, time.Time{}, nil); !errors.Is(err, ErrNotChild) {
		t.Errorf("claim of pid -1: got %v, want %v", err, ErrNotChild)
	}
	cmd := roleCmd("wait", "0")
	gate, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c := startClaimed(t, cmd)
	if _, err := ticket.Claim(c.Pid(), time.Time{}, nil); !errors.Is(err, ErrClaimed) {
		t.Errorf("second claim: got %v, want %v", err, ErrClaimed)
	}
	_ = gate.Close()
	waitExit(t, c)
	ticket.Close()
	ticket.Close() // must be harmless
	if _, err := ticket.Claim(c.Pid(), time.Time{}, nil); err == nil {
		t.Error("claim with a closed ticket succeeded")
	}
}

// What is kept for one ticket does not outlive it, also when another ticket,
// younger than the exit, stays open.
func TestLedgerIsBoundedByTickets(t *testing.T) {
	old := testReaper.Begin()
	from := testReaper.Reaped()
	for range 20 {
		if err := roleCmd("exit", "0").Start(); err != nil {
			t.Fatal(err)
		}
	}
	reapedAfter(t, from, 20)
	young := testReaper.Begin()
	if n := keptLen(); n != 20 {
		t.Errorf("kept %d exits with the old ticket open, want 20", n)
	}
	old.Close()
	if n := keptLen(); n != 0 {
		t.Errorf("kept %d exits that are older than every ticket, want 0", n)
	}
	young.Close()

	from = testReaper.Reaped()
	if err := roleCmd("exit", "0").Start(); err != nil {
		t.Fatal(err)
	}
	reapedAfter(t, from, 1)
	if n := keptLen(); n != 0 {
		t.Errorf("kept %d exits with no ticket open, want 0", n)
	}
}

func keptLen() int {
	testReaper.mu.Lock()
	defer testReaper.mu.Unlock()
	return testReaper.kept.len()
}

// B01: orphans come to the subreaper and die at the same moment, far more than
// any fixed buffer holds, while a subscriber does not read at all.
func TestThousandOrphansWithStalledSubscriber(t *testing.T) {
	const n = 1000
	stalled := testReaper.Subscribe()
	defer stalled.Close()
	reading := testReaper.Subscribe()
	defer reading.Close()

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd := roleCmd("orphans", strconv.Itoa(n), "5")
	cmd.ExtraFiles = []*os.File{r}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	parent := startClaimed(t, cmd)
	pids := map[int]bool{}
	for sc := bufio.NewScanner(out); sc.Scan(); {
		pids[number(sc.Text())] = true
	}
	_ = r.Close()
	waitExit(t, parent)
	if len(pids) != n {
		t.Fatalf("%d orphans, want %d", len(pids), n)
	}
	_ = w.Close() // all of them die now

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(pids) > 0 {
		e, err := reading.Next(ctx)
		if err != nil {
			t.Fatalf("%d exits missing: %v", len(pids), err)
		}
		if pids[e.Pid] && e.Status != 5 {
			t.Errorf("orphan %d: status %d, want 5", e.Pid, e.Status)
		}
		delete(pids, e.Pid)
	}
	// The stalled one lost nothing either.
	for seen := 0; seen < n; {
		e, err := stalled.Next(ctx)
		if err != nil {
			t.Fatalf("stalled subscriber: %d of %d: %v", seen, n, err)
		}
		if e.Status == 5 {
			seen++
		}
	}
}

// I2 under stress: starts from many goroutines, each process dead long before
// its pid is claimed or just then; every owner gets its own status.
func TestConcurrentStartsGetTheirOwnExit(t *testing.T) {
	const workers, rounds = 16, 30
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				want := (w*rounds + i) % 200
				ticket := testReaper.Begin()
				cmd := roleCmd("exit", strconv.Itoa(want))
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 { // let it die first
					pid := cmd.Process.Pid
					wait.Until(10*time.Second, func() bool { return unix.Kill(pid, 0) != nil })
				}
				c, err := ticket.Claim(cmd.Process.Pid, time.Time{}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if e := c.Wait(); e.Status != want {
					t.Errorf("worker %d round %d: status %d, want %d", w, i, e.Status, want)
				}
				ticket.Close()
			}
		})
	}
	wg.Wait()
	if n := keptLen(); n != 0 {
		t.Errorf("%d exits kept at the end, want 0", n)
	}
}

// Signal races with exit and recycling: after Done it must never reach a
// process, whoever has the pid then.
func TestSignalNeverReachesTheDead(t *testing.T) {
	for range 50 {
		c := startClaimed(t, roleCmd("exit", "0"))
		for {
			err := c.Signal(0)
			if err != nil {
				if !errors.Is(err, os.ErrProcessDone) {
					t.Fatalf("signal: %v", err)
				}
				break
			}
		}
		waitExit(t, c)
	}
}

// B16: a process that has the pid of an ended one is not its owner's to signal.
func TestSignalSparesTheNextOwnerOfThePid(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	cmd := roleCmd("wait", "0")
	cmd.Stdin = r
	next := startClaimed(t, cmd)
	ended := newChild(next.Pid(), nil)
	ended.complete(Exit{Pid: next.Pid()})
	if err := ended.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal: %v, want %v", err, os.ErrProcessDone)
	}
	if err := next.Signal(unix.SIGTERM); err != nil {
		t.Errorf("the next owner: %v", err)
	}
	if got := waitExit(t, next).Status; got != 128+int(unix.SIGTERM) {
		t.Errorf("the next owner ended with %d, not by its own signal", got)
	}
}

func TestSecondReaperPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a second Reaper was accepted")
		}
	}()
	New(NewForker())
}

// The stack dump of a process must work while the reaper reaps; here: Reaped,
// Subscribe and Begin answer while thousands of children die.
func TestCallersAreNotHeldUpByABurst(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd := roleCmd("orphans", "300", "0")
	cmd.ExtraFiles = []*os.File{r}
	waitExit(t, startClaimed(t, cmd))
	_ = r.Close()
	from := testReaper.Reaped()
	_ = w.Close()
	worst := time.Duration(0)
	wait.Until(30*time.Second, func() bool {
		start := time.Now()
		testReaper.Begin().Close()
		worst = max(worst, time.Since(start))
		return testReaper.Reaped() >= from+300
	})
	reapedAfter(t, from, 300)
	if worst > 2*time.Second {
		t.Errorf("Begin took %v during a burst", worst)
	}
}

func ExampleReaper() {
	// A launcher such as runc leaves a process behind and writes its pid.
	ticket := testReaper.Begin()
	defer ticket.Close()
	cmd := roleCmd("exit", "3")
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return
	}
	child, err := ticket.Claim(cmd.Process.Pid, time.Time{}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(child.Wait().Status)
	// Output: 3
}
