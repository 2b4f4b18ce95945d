// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/faults"
	"containerd-shim.v1/integration/harness/suite"
)

func TestMain(m *testing.M) { os.Exit(suite.Main(m)) }

// TestCallsFailOnce makes the first and the last call of each kind fail, with
// each error. `shimverify inject` does so with every call.
func TestCallsFailOnce(t *testing.T) { try(t, Mode{}, 2, "") }

// TestCallsFailTwice makes two calls in a row fail, once for each kind.
func TestCallsFailTwice(t *testing.T) { try(t, Mode{Twice: true}, 1, "") }

// TestMomentsWithoutAnything: memory, descriptors or room are missing not for one call
// alone, but for a moment that begins with it. Nothing that then fails may go unrepeated.
func TestMomentsWithoutAnything(t *testing.T) { try(t, Mode{Moment: true}, 1, "") }

// TestKilledAtAnyCall: what containerd does after a shim's death is enough to clean
// up.
func TestKilledAtAnyCall(t *testing.T) { try(t, Mode{Kill: true}, 2, "") }

// TestPollerFull: when epoll_ctl(2) had no room for one more descriptor, streams
// that could not be copied made execs die of SIGPIPE.
func TestPollerFull(t *testing.T) { try(t, Mode{}, 25, "epoll_ctl") }

// TestSwallowedErrorIsFound: a shim that drops the error of "runc delete" passed, because
// nobody looked whether the runtime was run.
func TestSwallowedErrorIsFound(t *testing.T) {
	shim := suite.Mutant(t, "proc/delete.go", "\t\terr = remove(ctx)\n", "\t\t_ = remove(ctx)\n")
	cfg, err := suite.Config(t).WithShim(shim)
	if err != nil {
		t.Fatal(err)
	}
	usual, err := Mode{}.Count(cfg)
	if err != nil {
		t.Fatal(err)
	}
	plan := slices.DeleteFunc(Mode{}.Plan(map[string]int{"execve": usual.Calls["execve"]}, 0), func(f faults.Fault) bool { return f.Errno != unix.EACCES })
	var found []string
	usual.Run(cfg, plan, 4, func(o Outcome) { found = append(found, o.Messages...) })
	if text := strings.Join(found, "\n"); !strings.Contains(text, "delete is answered as a success") {
		t.Errorf("of %d lives none shows that an error was dropped: %s", len(plan), text)
	}
}

// TestSymlinkedShim: no call of a shim that was given by a link was counted.
func TestSymlinkedShim(t *testing.T) {
	cfg := suite.Config(t)
	link := filepath.Join(t.TempDir(), "containerd-shim")
	if err := os.Symlink(cfg.Shim, link); err != nil {
		t.Fatal(err)
	}
	cfg, err := cfg.WithShim(link)
	if err != nil {
		t.Fatal(err)
	}
	usual, err := Mode{}.Count(cfg)
	if err != nil || usual.Calls["execve"] == 0 {
		t.Errorf("%d kinds of calls, %v", len(usual.Calls), err)
	}
}

// try runs a plan with the mode, with at most most calls of each kind; if kind is not
// "", of that kind only.
func try(t *testing.T, mode Mode, most int, kind string) {
	cfg := suite.Config(t)
	usual, err := mode.Count(cfg)
	if err != nil || len(usual.Leaks) > 0 {
		t.Fatalf("leaks %q, %v", usual.Leaks, err)
	}
	calls := usual.Calls
	if kind != "" {
		calls = map[string]int{kind: calls[kind]}
	}
	var outcomes []Outcome
	usual.Run(cfg, mode.Plan(calls, most), 4, func(o Outcome) {
		outcomes = append(outcomes, o)
		if o.Verdict != harness.Pass {
			t.Errorf("%v %q: %s", o.Fault, o.Hits, o.Messages)
			for _, l := range o.Log {
				t.Log(l)
			}
		}
	})
	if kinds := Unreached(outcomes); len(outcomes) == 0 || len(kinds) > 0 {
		t.Errorf("of %d lives none has come to a call of %q", len(outcomes), kinds)
	}
}

// TestUnreached: the lives of one kind made up for another of which none was reached.
func TestUnreached(t *testing.T) {
	lives := func(kind string, hits ...string) Outcome { return Outcome{Fault: faults.Fault{Kind: kind}, Hits: hits} }
	got := Unreached([]Outcome{lives("open", "open(f)"), lives("pipe"), lives("open", "open(g)"), lives("fork"), lives("fork", "fork()")})
	if want := []string{"pipe"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSpread: the first number is always among them, and the last one unless only one
// is asked for.
func TestSpread(t *testing.T) {
	for _, c := range []struct{ n, most, len, last int }{{1, 2, 1, 1}, {5, 0, 5, 5}, {10, 2, 2, 10}, {100, 3, 3, 100}, {10, 1, 1, 1}} {
		got := spread(c.n, c.most)
		if len(got) != c.len || got[0] != 1 || got[len(got)-1] != c.last {
			t.Errorf("spread(%d, %d) = %v", c.n, c.most, got)
		}
	}
}

// TestCallsThatMustBeThere: a life that does not make all these calls would prove
// nothing.
func TestCallsThatMustBeThere(t *testing.T) {
	usual, err := Mode{}.Count(suite.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	for kind := range faults.Kinds {
		switch kind {
		case "chmod", "truncate", "fsync", "tee", "pidfd_open", "bind", "recvmsg", "read file":
			continue // not in every life
		}
		if usual.Calls[kind] == 0 {
			t.Errorf("no call of %q in a life", kind)
		}
	}
}
