// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"

	"golang.org/x/sys/unix"
)

// B17: one pid, several owners. The pid file's time tells which exit is whose.
func TestLedgerTakesTheExitOfTheRightOwner(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	fill := func() *ledger {
		l := &ledger{}
		l.add(Exit{Seq: 10, Pid: 5, Status: 1, At: at(100)}) // an earlier stranger
		l.add(Exit{Seq: 20, Pid: 5, Status: 2, At: at(200)}) // ours
		l.add(Exit{Seq: 30, Pid: 5, Status: 3, At: at(300)}) // a later stranger
		l.add(Exit{Seq: 40, Pid: 6, Status: 4, At: at(400)})
		return l
	}
	for _, tc := range []struct {
		name  string
		pid   int
		from  uint64
		since time.Time
		want  int
		ok    bool
	}{
		{"between the strangers", 5, 1, at(150), 2, true},
		{"alive at the very moment of an exit", 5, 1, at(200), 2, true},
		{"before all", 5, 1, at(50), 1, true},
		{"older than the ticket", 5, 15, at(50), 2, true},
		{"after all", 5, 1, at(350), 0, false},
		{"no time known", 5, 1, time.Time{}, 3, true},
		{"other pid", 6, 1, at(0), 4, true},
		{"unknown pid", 7, 1, at(0), 0, false},
		{"ticket younger than all", 5, 31, time.Time{}, 0, false},
	} {
		l := fill()
		e, ok := l.take(tc.pid, tc.from, tc.since)
		if ok != tc.ok || e.Status != tc.want {
			t.Errorf("%s: got %d %v, want %d %v", tc.name, e.Status, ok, tc.want, tc.ok)
		}
		want := 4
		if tc.ok {
			want = 3
		}
		if l.len() != want {
			t.Errorf("%s: %d left, want %d", tc.name, l.len(), want)
		}
	}
}

func TestLedgerDropsByAge(t *testing.T) {
	l := &ledger{}
	for i := 1; i <= 100; i++ {
		l.add(Exit{Seq: uint64(i), Pid: i % 7, Status: i})
	}
	l.dropBefore(51)
	if l.len() != 50 {
		t.Errorf("%d left, want 50", l.len())
	}
	if _, ok := l.take(3, 0, time.Time{}); !ok {
		t.Error("a young exit was dropped")
	}
	l.dropBefore(1000)
	if l.len() != 0 || l.order != nil || l.byPid != nil {
		t.Errorf("not empty: %d", l.len())
	}
}

// While a start hangs, a container may leave any number of orphans to the shim. The
// latest exits are kept, and what is left of those that were taken does not grow, either.
func TestLedgerIsBounded(t *testing.T) {
	l := &ledger{}
	for i := 1; i <= 3*maxKept; i++ {
		l.add(Exit{Seq: uint64(i), Pid: i, Status: 1})
		if i%2 == 0 {
			l.take(i, 0, time.Time{})
		}
	}
	if n := len(l.order); n != maxKept {
		t.Errorf("%d are remembered, want %d", n, maxKept)
	}
	if n := l.len(); n != maxKept/2 {
		t.Errorf("%d are kept, want %d", n, maxKept/2)
	}
	if _, ok := l.take(2*maxKept-1, 0, time.Time{}); ok {
		t.Error("an old exit was kept")
	}
	if _, ok := l.take(2*maxKept+1, 0, time.Time{}); !ok {
		t.Error("the oldest of the latest was dropped")
	}
}

// A claim of a process whose exit was dropped says so, and does not wait.
func TestClaimOfADroppedExit(t *testing.T) {
	ticket := testReaper.Begin()
	defer ticket.Close()
	from := testReaper.Reaped()
	cmd := roleCmd("exit", "0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reapedAfter(t, from, 1)
	testReaper.mu.Lock()
	for i := range maxKept {
		testReaper.seq++
		testReaper.kept.add(Exit{Seq: testReaper.seq, Pid: 1<<22 + i}) // pids that no process has
	}
	testReaper.mu.Unlock()
	if _, err := ticket.Claim(cmd.Process.Pid, time.Time{}, nil); !errors.Is(err, ErrNotChild) {
		t.Errorf("got %v, want ErrNotChild", err)
	}
}

// The same with a recycled pid of real processes: the pid of a dead, unclaimed
// child is given to a stranger that lives. The claim must get the dead one's
// exit, and the claim of the living one must not.
func TestRecycledPidIsToldApart(t *testing.T) {
	ticket := testReaper.Begin()
	defer ticket.Close()
	from := testReaper.Reaped()
	first := roleCmd("exit", "11")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	pid := first.Process.Pid
	born := time.Now().Add(-time.Minute) // any moment before its death
	reapedAfter(t, from, 1)

	second, gate := forkWithPid(t, pid, "12")
	died := time.Now()
	c, err := ticket.Claim(pid, born, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := waitExit(t, c); e.Status != 11 {
		t.Errorf("claim of the dead: status %d, want 11", e.Status)
	}
	c, err = ticket.Claim(second, died, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
		t.Fatalf("the living got an exit: %+v", c.Wait())
	default:
	}
	_ = gate.Close()
	if e := waitExit(t, c); e.Status != 12 {
		t.Errorf("claim of the living: status %d, want 12", e.Status)
	}
}

// forkWithPid starts a waiting child that has just this pid; closing gate ends
// it. ns_last_pid (proc(5)) makes the kernel begin its search there.
func forkWithPid(t *testing.T, pid int, code string) (int, *os.File) {
	t.Helper()
	for range 200 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := roleCmd("wait", code)
		cmd.Stdin = r
		last := filepath.Join("/proc/sys/kernel", "ns_last_pid")
		if err := os.WriteFile(last, []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Fatalf("needs root and CONFIG_CHECKPOINT_RESTORE: %v", err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		if cmd.Process.Pid == pid {
			return pid, w
		}
		_ = w.Close() // missed: another process took it; this one ends by itself
		wait.Until(5*time.Second, func() bool { return unix.Kill(cmd.Process.Pid, 0) != nil })
	}
	t.Fatalf("pid %d could not be had again", pid)
	return 0, nil
}
