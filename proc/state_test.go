// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// wanted is the table again, by hand and from the contract: for each event the
// phase that follows in created, running, pausing, paused, stopped, deleted.
// "-" is a refusal of class FailedPrecondition, "?" one of class NotFound.
var wanted = map[Event][phases]string{
	WantStart:      {"created", "-", "-", "-", "-", "-"},
	WantPause:      {"-", "pausing", "-", "-", "-", "-"},
	WantResume:     {"-", "-", "-", "paused", "-", "-"},
	WantDelete:     {"created", "-", "-", "-", "stopped", "?"},
	WantExec:       {"created", "running", "-", "-", "-", "-"},
	WantUpdate:     {"created", "running", "pausing", "paused", "-", "-"},
	WantCheckpoint: {"-", "running", "-", "paused", "-", "-"},
	WantResize:     {"created", "running", "pausing", "paused", "stopped", "-"},
	WantKill:       {"created", "running", "pausing", "paused", "stopped", "?"},
	DidStart:       {"running", "running", "pausing", "paused", "stopped", "deleted"},
	DidPause:       {"created", "paused", "paused", "paused", "stopped", "deleted"},
	DidNotPause:    {"created", "running", "running", "paused", "stopped", "deleted"},
	DidResume:      {"created", "running", "running", "running", "stopped", "deleted"},
	DidExit:        {"stopped", "stopped", "stopped", "stopped", "stopped", "deleted"},
	DidDelete:      {"deleted", "deleted", "deleted", "deleted", "deleted", "deleted"},
}

// texts are the refusals that clients read, as upstream words them.
var texts = map[string]string{
	"created/want-pause":      "cannot pause task in created state",
	"created/want-resume":     "cannot resume task in created state",
	"created/want-checkpoint": "cannot checkpoint a task in created state",
	"running/want-start":      "cannot start a running process",
	"running/want-resume":     "cannot resume a running process",
	"running/want-delete":     "cannot delete a running process",
	"pausing/want-start":      "cannot start a pausing process",
	"pausing/want-pause":      "cannot pause a pausing container",
	"pausing/want-resume":     "cannot resume a pausing process",
	"pausing/want-delete":     "cannot delete a pausing process",
	"pausing/want-exec":       "cannot exec in a pausing state",
	"pausing/want-checkpoint": "cannot checkpoint a pausing container",
	"paused/want-start":       "cannot start a paused process",
	"paused/want-pause":       "cannot pause a paused container",
	"paused/want-delete":      "cannot delete a paused process",
	"paused/want-exec":        "cannot exec in a paused state",
	"stopped/want-start":      "cannot start a stopped process",
	"stopped/want-pause":      "cannot pause a stopped container",
	"stopped/want-resume":     "cannot resume a stopped container",
	"stopped/want-exec":       "cannot exec in a stopped state",
	"stopped/want-update":     "cannot update a stopped container",
	"stopped/want-checkpoint": "cannot checkpoint a stopped container",
	"deleted/want-start":      "cannot start a deleted process",
	"deleted/want-pause":      "cannot pause a deleted process",
	"deleted/want-resume":     "cannot resume a deleted process",
	"deleted/want-delete":     "cannot delete a deleted process",
	"deleted/want-exec":       "cannot exec in a deleted state",
	"deleted/want-update":     "cannot update a deleted process",
	"deleted/want-checkpoint": "cannot checkpoint a deleted process",
	"deleted/want-resize":     "cannot resize a deleted process",
	"deleted/want-kill":       "cannot kill a deleted process",
}

func TestTableCellByCell(t *testing.T) {
	if len(wanted) != int(events) {
		t.Fatalf("%d events wanted, the table has %d", len(wanted), events)
	}
	refused := 0
	for ev, row := range wanted {
		for i, want := range row {
			p := Phase(i)
			cell := fmt.Sprintf("%v/%v", p, ev)
			got, err := next(p, ev)
			if want != "-" && want != "?" {
				if err != nil || got.String() != want {
					t.Errorf("%s: got %v, %v, want %s", cell, got, err, want)
				}
				continue
			}
			refused++
			checkRefusal(t, cell, err, p, ev, want)
			if got != p {
				t.Errorf("%s: refused, but the phase becomes %v", cell, got)
			}
		}
	}
	if refused != len(texts) {
		t.Errorf("%d cells refuse, %d have a text here", refused, len(texts))
	}
}

func checkRefusal(t *testing.T, cell string, err error, p Phase, ev Event, want string) {
	t.Helper()
	var se *StateError
	if !errors.As(err, &se) || se.Phase != p || se.Event != ev {
		t.Errorf("%s: got error %#v, want a StateError of that cell", cell, err)
		return
	}
	if notFound := errdefs.IsNotFound(err); notFound != (want == "?") || !notFound && !errdefs.IsFailedPrecondition(err) {
		t.Errorf("%s: class of %v, want %s", cell, err, want)
	}
	if text := texts[cell]; text == "" || !strings.HasPrefix(err.Error(), text+": ") {
		t.Errorf("%s: got %q, want %q first", cell, err, text)
	}
}

func TestNamesOfPhasesAndEvents(t *testing.T) {
	seen := make(map[string]bool)
	name := func(s, invalid string) {
		if s == "" || seen[s] || strings.HasPrefix(s, invalid) {
			t.Errorf("name %q is empty, taken or made up", s)
		}
		seen[s] = true
	}
	for p := range phases {
		name(p.String(), "Phase(")
	}
	for e := range events {
		name(e.String(), "Event(")
		if want := e < DidStart; strings.HasPrefix(e.String(), "want-") != want {
			t.Errorf("%v: a request's name begins with want-, a fact's does not", e)
		}
	}
	for got, want := range map[string]string{
		Phase(-1).String(): "Phase(-1)", phases.String(): "Phase(6)",
		Event(-1).String(): "Event(-1)", events.String(): "Event(15)",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// walk applies a sequence of events, one a byte, and checks what must hold
// after each.
func walk(t *testing.T, sequence []byte) {
	t.Helper()
	p, exited := Created, false
	for i, b := range sequence {
		ev := Event(int(b) % int(events))
		was := p
		to, err := next(p, ev)
		p = to
		where := func() string { return fmt.Sprintf("step %d of %v: %v in %v", i, sequence, ev, was) }
		switch {
		case was == Deleted && p != Deleted:
			t.Fatalf("%s: deleted is not final", where())
		case exited && (p != Stopped && p != Deleted):
			t.Fatalf("%s: %v after the exit", where(), p)
		case err != nil && (p != was || ev >= DidStart):
			t.Fatalf("%s: a refused fact, or one that changes the phase", where())
		case err == nil && ev < DidStart && ev != WantPause && p != was:
			t.Fatalf("%s: a request changes the phase to %v", where(), p)
		case ev == DidDelete && p != Deleted:
			t.Fatalf("%s: not deleted", where())
		}
		exited = exited || ev == DidExit
	}
}

func FuzzEventSequences(f *testing.F) {
	f.Add([]byte{byte(DidStart), byte(WantPause), byte(DidExit), byte(DidPause), byte(DidDelete), byte(DidStart)})
	f.Add([]byte{byte(DidExit), byte(DidStart), byte(DidResume)})
	f.Fuzz(walk)
}

func TestRandomEventSequences(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		sequence := make([]byte, r.IntN(24))
		for i := range sequence {
			sequence[i] = byte(r.IntN(int(events)))
		}
		walk(t, sequence)
	}
}

// The diagram in doc.go has an edge for every change of phase in the table,
// and no other.
func TestDiagramAgreesWithTable(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "//\t"); ok && strings.ContainsAny(rest, "►◄") {
			got = append(got, edges(rest)...)
		}
	}
	for ev, row := range wanted {
		for p, to := range row {
			if from := Phase(p).String(); to != "-" && to != "?" && to != from {
				want = append(want, from+" "+ev.String()+" "+to)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the diagram has\n%s\nthe table has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

var (
	arrow     = regexp.MustCompile(`──([a-z-]+)──►|◄──([a-z-]+)──`)
	phaseWord = regexp.MustCompile(`[a-z]+`)
)

// edges reads one line of the diagram: phases, or lists of them, with arrows
// between them.
func edges(line string) []string {
	var all []string
	nodes := arrow.Split(line, -1)
	for i, a := range arrow.FindAllStringSubmatch(line, -1) {
		left, right, event := nodes[i], nodes[i+1], a[1]
		if event == "" {
			left, right, event = right, left, a[2]
		}
		for _, from := range phaseWord.FindAllString(left, -1) {
			for _, to := range phaseWord.FindAllString(right, -1) {
				if slices.Contains(phaseNames[:], from) && slices.Contains(phaseNames[:], to) {
					all = append(all, from+" "+event+" "+to)
				}
			}
		}
	}
	return all
}

// The exit of a process is written once, whatever comes after it.
func TestExitIsImmutable(t *testing.T) {
	p := newProcess(&Env{}, "p", Stdio{})
	first := p.Snapshot().Exit
	if !first.At.IsZero() {
		t.Fatalf("exit %v before the end", first)
	}
	for i, status := range []int{7, 0, 255} {
		p.RecordExit(reaperExit(status))
		if i == 0 {
			first = p.Snapshot().Exit
		}
		p.endAttempt()
		if got := p.Snapshot(); got.Exit != first || got.Exit.Status != 7 || got.Phase != Stopped {
			t.Fatalf("after exit number %d: %+v, want status 7", i, got)
		}
	}
	if e, err := p.Wait(t.Context()); err != nil || e != first {
		t.Errorf("wait: %v, %v", e, err)
	}
}
