// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/integration/harness/procfs"
)

// Draining holds the calls of a shim that is at work, so it is for an exchange that has
// failed a few times, and has an end: a shim that hangs must not be held again and again.
func TestWhenCallsAreHeld(t *testing.T) {
	const attempts = 12
	drained := func(n ...int) []int { return n }
	for name, c := range map[string]struct {
		req  Request
		want []int // the attempts that drain
	}{
		"exchange": {Request{Binary: "new", StateFile: "state"}, drained(4, 5, 6, 7, 8, 9)},
		"at once":  {Request{Binary: "new", StateFile: "state", Drain: true}, drained(1, 2, 3, 4, 5, 6)},
		"wedged":   {Request{Binary: "new", StateFile: "state", Wedged: true}, nil},
		"look":     {Request{StateFile: "state", Dry: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tracer, log := busyUntil(t, attempts)
			outcome, err := tracer.Run(t.Context(), &scan.Shim{PID: os.Getpid()}, c.req, time.Minute)
			if err != nil || outcome.Busy {
				t.Fatalf("got %+v, %v", outcome, err)
			}
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			requests := strings.Split(strings.TrimSpace(string(text)), "\n")
			if len(requests) != attempts {
				t.Fatalf("got %d attempts, want %d", len(requests), attempts)
			}
			var got []int
			for i, line := range requests {
				var req Request
				if err := json.Unmarshal([]byte(line), &req); err != nil {
					t.Fatal(err)
				}
				if req.Drain {
					got = append(got, i+1)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("the attempts %v drain, want %v", got, c.want)
			}
		})
	}
}

// TestTracerThatDies: how an exchange has ended is unknown only if it had begun.
func TestTracerThatDies(t *testing.T) {
	for said, unknown := range map[string]bool{
		"":                                    false,
		`{"swapped":`:                         false,
		Commit + "\n":                         true,
		Commit + "\n" + `{"error":`:           true,
		Commit + "\n" + `{"error":"ENOEXEC"}`: false,
	} {
		program := filepath.Join(t.TempDir(), "tracer")
		script := fmt.Sprintf("#!/bin/sh\ncat >/dev/null\nprintf '%%s' '%s'\necho why >&2\nexit 1\n", said)
		if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		o, err := Tracer{Program: program}.Run(t.Context(), &scan.Shim{PID: os.Getpid()}, Request{}, time.Minute)
		if unknown != errors.Is(err, ErrTracer) || !unknown && (err != nil || o.Error == "" || Hopeless(o.Err())) {
			t.Errorf("%q: got %+v, %v", said, o, err)
		}
	}
	if o, err := (Tracer{Program: "/nonexistent"}).Run(t.Context(), &scan.Shim{PID: os.Getpid()}, Request{}, time.Minute); err != nil || o.Error == "" {
		t.Errorf("one that cannot start: got %+v, %v", o, err)
	}
}

// busyUntil returns a Tracer that finds the shim busy at each attempt but the last, and the
// file with a line for each request.
func busyUntil(t *testing.T, last int) (tracer Tracer, log string) {
	dir := t.TempDir()
	program, log := filepath.Join(dir, "tracer"), filepath.Join(dir, "requests")
	script := fmt.Sprintf(`#!/bin/sh
{ cat; echo; } >>%[1]s
if [ $(grep -c . %[1]s) -lt %[2]d ]; then echo '{"busy":true}'; else echo '{}'; fi
`, log, last)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return Tracer{Program: program}, log
}

// TestSignalOfADeadTracer: a signal that it had taken is lost with it, and if that was the SIGCHLD of
// an exit, a shim of upstream's would not learn of it. So the shim is sent one.
func TestSignalOfADeadTracer(t *testing.T) {
	shim := exec.Command("sh", "-c", "trap 'echo told' CHLD; echo ready; read line")
	in, err := shim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := shim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shim.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	p, _ := procfs.Read(shim.Process.Pid) // it is there
	outcome, err := Tracer{Program: "/bin/false"}.Run(t.Context(), &scan.Shim{PID: p.Pid, StartTicks: p.StartTime}, Request{StateFile: "state"}, 0)
	if err != nil || !strings.Contains(outcome.Error, "nothing was changed") {
		t.Errorf("got %+v, %v", outcome, err)
	}
	_ = in.Close() // ends the shim in any case
	if lines.Scan(); lines.Text() != "told" {
		t.Errorf("the shim says %q", lines.Text())
	}
	_ = shim.Wait() // its status does not matter
}
