// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types/task"
	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/cmd/shimctl/internal/inplace"
	"containerd-shim.v1/cmd/shimctl/internal/repair"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// withWaits is a shim with two execs that run and a client that waits for each.
func withWaits(t *testing.T, version string) (shim *shimtest.Shim, s scan.Shim, wg *sync.WaitGroup, clients []*client) {
	t.Helper()
	shim = started(t, shimtest.Baseline(t, version))
	wg = new(sync.WaitGroup)
	clients = []*client{{id: "e1", status: 11, late: true}, {id: "e2", status: 12, late: true}}
	for _, c := range clients {
		if err := shim.ExecSpec(t.Context(), c.id, c.spec()); err != nil {
			t.Fatal(err)
		}
		background(wg, t, c, func() error { return c.finish(t.Context(), shim.API) })
	}
	shimtest.Until(t, 10*time.Second, "two Waits", func() bool {
		o, _ := looked(t, shim, false)
		return len(o.Report.Requests) == 2
	})
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	return shim, s, wg, clients
}

// A program that cannot be executed leaves the old one as it was, with all that it had.
func TestSwapExecveFails(t *testing.T) {
	dir := t.TempDir()
	self, err := os.ReadFile(shimtest.Own(t))
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, content []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	busy, err := os.OpenFile(file("busy", self, 0o755), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	fails := map[string]unix.Errno{
		filepath.Join(dir, "none"):       unix.ENOENT,
		file("noexec", self, 0o644):      unix.EACCES,
		file("junk", []byte("x"), 0o755): unix.ENOEXEC,
		file("elf", self[:100], 0o755):   unix.ENOEXEC,
		busy.Name():                      unix.ETXTBSY,
	}
	for _, version := range builds("v1.1.2", "v1.2.6", "v1.7.35", "debian") {
		t.Run(version, func(t *testing.T) {
			shim, s, wg, clients := withWaits(t, version)
			for path, errno := range fails {
				o, err := underTest().tracer().Run(t.Context(), &s, takeover.Request{StateFile: filepath.Join(t.TempDir(), "state"), Binary: path}, 5*time.Second)
				if err != nil || o.Swapped || !strings.Contains(o.Error, errno.Error()) {
					t.Fatalf("%s: got %+v, %v, want %v", path, o, err, errno)
				}
				if err := shim.ExecOnce(t.Context(), filepath.Base(path)); err != nil {
					t.Fatalf("after %v: %v", errno, err)
				}
			}
			endLate(t, shim, clients)
			wg.Wait()
		})
	}
}

// broken returns a copy of this project's shim that the kernel finds broken only when the program
// before it is gone (elf(5): a segment that cannot be mapped).
func broken(t *testing.T) string {
	t.Helper()
	program, err := os.ReadFile(shimtest.Own(t))
	if err != nil {
		t.Fatal(err)
	}
	const phoff, phentsize, address = 32, 56, 16
	for at := binary.LittleEndian.Uint64(program[phoff:]); ; at += phentsize {
		if elf.ProgType(binary.LittleEndian.Uint32(program[at:])) == elf.PT_LOAD {
			binary.LittleEndian.PutUint64(program[at+address:], 1<<63) // no address of a process
			break
		}
	}
	path := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSwapPastThePointOfNoReturn: a program that is broken ends the shim if nobody has tried it
// before. That is the exchange's doing, and not that of a shim which has ended by itself: it stops
// a roll-out, and counts as a repair.
func TestSwapPastThePointOfNoReturn(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.6"))
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	req := takeover.Request{StateFile: filepath.Join(t.TempDir(), "state"), Binary: broken(t)}
	if o, err := underTest().tracer().Run(t.Context(), &s, req, 5*time.Second); !errors.Is(err, takeover.ErrTracer) {
		t.Errorf("got %+v, %v", o, err)
	}
	<-shim.Exited()
}

// TestTwoSwaps: who comes second leaves the first one's state alone, whatever directories they use.
func TestTwoSwaps(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.6"))
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	first, err := os.Open(shim.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := unix.Flock(int(first.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	its := filepath.Join(shim.Bundle, ".shim.state.json")
	if err := os.WriteFile(its, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := underTest().tracer().Swap(t.Context(), &s, shimtest.Own(t), "", false, time.Second); !errors.Is(err, takeover.ErrLocked) || takeover.Hopeless(err) {
		t.Errorf("got %v", err)
	}
	u := &upgrader{program: underTest(), yes: true, binary: shimtest.Own(t), dir: t.TempDir(), maxFailures: 1, patience: 5 * time.Second}
	if got := u.one(t.Context(), &s); got.result != resultBusy {
		t.Errorf("upgrade: %s, %v", got.result, got.err)
	}
	if _, err := os.Stat(its); err != nil {
		t.Errorf("its state is gone: %v", err)
	}
	if err := unix.Flock(int(first.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	stale := s // as if it was exchanged between the look of upgrade or repair and the lock
	stale.Exe = "/another/one's"
	for _, u.yes = range []bool{true, false} {
		if got := u.one(t.Context(), &stale); got.result != resultBusy || got.tried || !errors.Is(got.err, takeover.ErrExchanged) {
			t.Errorf("upgrade: %s, %v", got.result, got.err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(u.dir, "evidence", "*")); err != nil || len(left) > 0 {
		t.Errorf("evidence of what was not done: %v, %v", left, err)
	}
	repairExchanged(t, &stale)
	swapped(t, shim, false) // by the first
	if got := u.failed(t.Context(), &s, takeover.ErrExchanged); got.result != resultCurrent {
		t.Errorf("upgrade: %s, %v", got.result, got.err)
	}
	if err := os.WriteFile(its, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, swap := underTest().tracer().Swap(t.Context(), &s, shimtest.Own(t), "", false, time.Second)
	_, look := underTest().tracer().Look(t.Context(), &s, shimtest.Own(t), false, time.Second)
	if !errors.Is(swap, takeover.ErrExchanged) || !errors.Is(look, takeover.ErrExchanged) || takeover.Hopeless(swap) {
		t.Errorf("got %v, %v", swap, look)
	}
	if _, err := os.Stat(its); err != nil {
		t.Errorf("its state is gone: %v", err)
	}
}

// repairExchanged wants a repair of a shim that somebody else has exchanged to count for nothing.
func repairExchanged(t *testing.T, s *scan.Shim) {
	t.Helper()
	dir := t.TempDir()
	tally, err := repair.OpenTally(dir)
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := repair.OpenLedger(filepath.Join(dir, "repairs.json"))
	if err != nil {
		t.Fatal(err)
	}
	r := &repairer{checkFlags: checkFlags{program: underTest()}, binary: shimtest.Own(t), dir: dir, tally: tally}
	done, err := r.inPlace(t.Context(), &repair.Case{Shim: *s}, ledger)
	if done || !errors.Is(err, takeover.ErrExchanged) || len(tally.Counts)+len(ledger.Entries) > 0 {
		t.Errorf("repair: %v, %v, counted %v, entered %v", done, err, tally.Counts, ledger.Entries)
	}
}

// A dry run says so, too, if the new program could not be executed for want of room.
func TestLookRefusesALargeEnvironment(t *testing.T) {
	t.Setenv("LARGE", strings.Repeat("x", 110<<10)) // the kernel takes a string of 128 KiB
	shim := started(t, shimtest.Baseline(t, "v1.2.6"))
	t.Setenv("LARGE", "")
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	if _, err := underTest().tracer().Look(t.Context(), &s, shimtest.Own(t), false, 5*time.Second); !errors.Is(err, takeover.ErrRefused) || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("got %v", err)
	}
	if !shim.Answers() {
		t.Error("it does not answer")
	}
}

// A tracer that is killed leaves a shim that runs: the old program before the commit
// and the new one after it. No call is lost. Before the commit nothing has been done to the
// shim, and the error says no other.
func TestSwapTracerDies(t *testing.T) {
	for _, version := range builds("v1.1.2", "v1.7.35", "debian") {
		for step, ours := range map[string]bool{"data": false, "code": false, "registers": false, "mask": true, "continue": true, "exec": true} {
			t.Run(fmt.Sprintf("%s at %s", version, step), func(t *testing.T) {
				shim, s, wg, clients := withWaits(t, version)
				req := takeover.Request{StateFile: filepath.Join(t.TempDir(), "state"), Binary: shimtest.Own(t), DieAt: step}
				o, err := underTest().tracer().Run(t.Context(), &s, req, 5*time.Second)
				if ours != errors.Is(err, takeover.ErrTracer) || !ours && (err != nil || !strings.Contains(o.Error, "killed") || o.Busy || o.Refused) {
					t.Fatalf("got %+v, %v", o, err)
				}
				if ours {
					shimtest.Until(t, 10*time.Second, "the new program", func() bool {
						now, ok := scan.One(procRoot, shim.PID, s.StartTicks)
						return ok && now.Build.Ours
					})
				} else if now, ok := scan.One(procRoot, shim.PID, s.StartTicks); !ok || now.Build.Ours || now.Tracer != 0 {
					t.Fatalf("got %+v", now)
				}
				endLate(t, shim, clients)
				wg.Wait()
				lifeGoesOn(t, shim)
			})
		}
	}
}

// A shim that writes no dump is not held for long, and is as it was.
func TestLookGivesUp(t *testing.T) {
	shim, s, wg, clients := withWaits(t, "v1.2.6")
	thaw := shimtest.Freeze(t, shim.PID)
	begun := time.Now()
	o, err := underTest().tracer().Run(t.Context(), &s, takeover.Request{}, 20*time.Second)
	if err != nil || o.Busy || !strings.Contains(o.Error, "not written two stack dumps within 4s") {
		t.Errorf("got %+v, %v", o, err)
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	thaw()
	endLate(t, shim, clients)
	wg.Wait()
	lifeGoesOn(t, shim)
}

// B08: a call of the runtime that hangs is a reason to refuse, which is said in one line, and
// nothing is changed; once that runtime has ended, it goes on.
func TestUpgradeWhileARuntimeHangs(t *testing.T) {
	for _, version := range []string{"v1.6.38", "v1.7.35"} {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			release := shim.Hold(t, "pause", shim.Pause)
			status, o, e := capture(t, "upgrade", "-yes", "-binary", shimtest.Own(t), "-dir", t.TempDir(), "-patience", "1s", strconv.Itoa(shim.PID))
			oneLine(t, "a runtime that hangs", status, exitSome, o+e, "a call of the runtime is underway")
			status, o, e = capture(t, "upgrade", "-yes", "-o", "json", "-refused-ok", "-binary", shimtest.Own(t), "-dir", t.TempDir(), "-patience", "1s", strconv.Itoa(shim.PID))
			oneLine(t, "in a roll-out", status, exitOK, o+e, `"result":"busy"`)
			s, ok := scan.One(procRoot, shim.PID, 0)
			if !ok || s.Build.Ours || s.Tracer != 0 {
				t.Errorf("got %+v", s)
			}
			// Nor if it were wedged.
			if _, err := underTest().tracer().Swap(t.Context(), &s, shimtest.Own(t), "", true, time.Second); err == nil || !strings.Contains(err.Error(), "is at work") {
				t.Errorf("as a wedged one: %v", err)
			}
			release()
			shimtest.Until(t, 20*time.Second, "Pause is done", func() bool {
				st, err := shim.API.State(t.Context(), &shimapi.StateRequest{ID: shim.ID})
				return err == nil && st.Status == task.Status_PAUSED
			})
			if _, err := shim.API.Resume(t.Context(), &emptypb.Empty{}); err != nil {
				t.Fatal(err)
			}
			swapped(t, shim, false)
			lifeGoesOn(t, shim)
		})
	}
}

// TestSwapWithoutABundle: containerd may remove a bundle and leave its shim. That failed, and
// stopped every roll-out on the host, where it should be refused.
func TestSwapWithoutABundle(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.6"))
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	if why := takeover.Refuse(&s); why != "" {
		t.Fatalf("refused before: %s", why)
	}
	bundle, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", shim.PID))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(bundle); err != nil {
		t.Fatal(err)
	}
	if why := takeover.Refuse(&s); !strings.Contains(why, "bundle is gone") {
		t.Errorf("refused for %q", why)
	}
}

// TestSwapOfATracedShim: somebody else's tracer is waited for. It is not a missing right, and
// no reason to end the container.
func TestSwapOfATracedShim(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.6"))
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	runtime.LockOSThread() // whose tracee it is
	defer runtime.UnlockOSThread()
	tracee, err := inplace.Seize(shim.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer tracee.Detach()
	o, err := underTest().tracer().Run(t.Context(), &s, takeover.Request{StateFile: filepath.Join(t.TempDir(), "state"), Dry: true}, time.Second)
	if err != nil || !o.Traced || takeover.Hopeless(o.Err()) || !strings.Contains(o.Error, fmt.Sprintf("process %d traces it", unix.Gettid())) {
		t.Errorf("got %+v, %v", o, err)
	}
}

// TestLookLeavesNoState: what somebody who was killed has left of a state, in which are the
// environments of execs, goes with the next look.
func TestLookLeavesNoState(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.6"))
	bundle, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", shim.PID))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".shim.state.json", "..shim.state.json.123"} {
		if err := os.WriteFile(filepath.Join(bundle, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	if o, err := underTest().tracer().Look(t.Context(), &s, shimtest.Own(t), false, 5*time.Second); err != nil {
		t.Fatalf("got %+v, %v", o, err)
	}
	if left, _ := filepath.Glob(filepath.Join(bundle, ".*state*")); len(left) > 0 { // the pattern is right
		t.Errorf("left: %v", left)
	}
}
