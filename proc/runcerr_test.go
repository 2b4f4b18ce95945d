// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"containerd-shim.v1/proc/internal/proctest"
	"containerd-shim.v1/proc/stdio"
)

// scripted returns a real Runtime whose binary is a shell script with body;
// $log is the call's log file, $verb its verb.
func scripted(t *testing.T, body string) (Runtime, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "runtime")
	script := `#!/bin/sh
for a; do
	case "$prev" in --log) log=$a;; esac
	case "$a" in create|start|exec|kill|delete|ps|pause) verb=$a;; esac
	prev=$a
done
` + body + "\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if files, err := os.ReadDir(logs); err != nil || len(files) > 0 { // B40
			t.Errorf("logs left: %v, %v", files, err)
		}
	})
	return NewRunc(RuntimeConfig{Root: dir, Dir: logs, Timeout: patience, ImageTimeout: patience, Monitor: proctest.Monitor})(path), path
}

// B47: what runtimes say of a container or process that is gone.
func TestKillTexts(t *testing.T) {
	census(t)
	for _, tt := range []struct {
		msg  string
		want error  // class
		text string // how the answer begins
	}{
		{"os: process already finished", errdefs.ErrNotFound, "process already finished"},                         // runc 1.0
		{"container not running", errdefs.ErrNotFound, "process already finished"},                                // runc 1.0 to 1.2
		{"unable to signal init: no such process", errdefs.ErrNotFound, "process already finished"},               // runc 1.1
		{"container does not exist", errdefs.ErrNotFound, "no such container"},                                    // runc 1.0 to 1.2
		{"container \"c1\" does not exist", errdefs.ErrNotFound, "no such container"},                             // runc 1.0
		{"cannot kill container: No such process", errdefs.ErrNotFound, "process already finished"},               // crun
		{"error opening file `/run/crun/c1/status`: No such file or directory", errdefs.ErrNotFound, ""},          // crun
		{"container `c1` is not running", errdefs.ErrNotFound, "process already finished"},                        // crun
		{"container c1 does not exist", errdefs.ErrNotFound, "no such container"},                                 // youki
		{"unable to signal init: permission denied", errdefs.ErrInternal, "unknown error after kill: runc kill:"}, // no runtime's goodbye
		{"unknown signal \"x\"", errdefs.ErrInternal, "unknown error after kill: runc kill: unknown signal"},
	} {
		r, _ := scripted(t, `printf '%s' '{"level":"error","msg":"`+strings.ReplaceAll(tt.msg, `"`, `\"`)+`"}' > $log; exit 1`)
		err := killError(r.Kill(t.Context(), "c1", 15, false))
		if !errors.Is(err, tt.want) || !strings.HasPrefix(err.Error(), tt.text) {
			t.Errorf("%s: got %v, want %v, %q", tt.msg, err, tt.want, tt.text)
		}
	}
}

// B41: an error is this call's own, whatever its log holds.
func TestErrorTexts(t *testing.T) {
	for name, tt := range map[string]struct{ body, want string }{
		"logged":        {`echo '{"level":"error","msg":"first"}' > $log; echo '{"level":"error","msg":"second"}' >> $log; exit 1`, "OCI runtime start failed: second"},
		"not json":      {`echo '{"level":"error","msg":"cause"}' > $log; echo garbage >> $log; exit 1`, "OCI runtime start failed: cause"},
		"warning":       {`echo '{"level":"warning","msg":"no"}' > $log; echo said >&2; exit 1`, ": said"},
		"nothing":       {`exit 42`, "exit status 42"},
		"plain text":    {`echo one >&2; echo two >&2; echo >&2; exit 1`, "OCI runtime start failed: two"},
		"killed":        {`kill -9 $$`, "exit status 137"},
		"1 MB of lines": {`i=0; while [ $i -lt 16 ]; do printf "%065536d\n" 7; i=$((i+1)); done; echo last; exit 1`, "OCI runtime start failed: last"},
		"1 MB line":     {`printf "%01048576d" 7; exit 1`, "00000000000007"},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			r, _ := scripted(t, tt.body)
			err := r.Start(t.Context(), "c1")
			if !errdefs.IsInternal(err) || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 2*maxMessage {
				t.Errorf("got %d bytes, %.200v, want %q", len(err.Error()), err, tt.want)
			}
		})
	}
}

func TestErrorOfAnEarlierCallIsNotRepeated(t *testing.T) {
	census(t)
	r, path := scripted(t, `[ -e $0.again ] && exit 42; echo '{"level":"error","msg":"earlier"}' > $log; touch $0.again; exit 1`)
	if err := r.Start(t.Context(), "c1"); err == nil || !strings.Contains(err.Error(), "earlier") {
		t.Errorf("first: %v", err)
	}
	if err := r.Start(t.Context(), "c1"); err == nil || strings.Contains(err.Error(), "earlier") || !strings.Contains(err.Error(), "42") {
		t.Errorf("second, of %s: %v", path, err)
	}
}

// Classes: the runtime is missing or no program, it hangs, the shim ends.
func TestErrorClasses(t *testing.T) {
	census(t)
	good, path := scripted(t, `exec sleep 100`)
	for _, what := range []string{filepath.Join(t.TempDir(), "missing"), t.TempDir(), filepath.Join(filepath.Dir(path), "plain")} {
		if strings.HasSuffix(what, "plain") {
			if err := os.WriteFile(what, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		bad := NewRunc(good.(*runcRuntime).RuntimeConfig)(what)
		for verb, err := range map[string]error{
			"create": bad.Create(t.Context(), "c1", t.TempDir(), CreateCall{}),
			"exec":   bad.Exec(t.Context(), "c1", specs.Process{}, ExecCall{}),
			"start":  bad.Start(t.Context(), "c1"),
			"kill":   bad.Kill(t.Context(), "c1", 9, false),
		} {
			if !errdefs.IsFailedPrecondition(err) {
				t.Errorf("%s with the runtime %s: %v, want FailedPrecondition", verb, what, err)
			}
		}
	}
	// E2BIG: the runtime is there, and the call is at fault (execve(2), 128 KiB an argument).
	if err := good.Start(t.Context(), strings.Repeat("x", 1<<20)); !errdefs.IsInternal(err) {
		t.Errorf("an argument that is too long: %v, want Internal", err)
	}
	stopped, _ := scripted(t, `kill -STOP $$`)
	for what, r := range map[string]Runtime{"hangs": good, "was stopped": stopped} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := r.Start(ctx, "c1"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within") {
			t.Errorf("a runtime that %s: %v", what, err)
		}
	}
	ending, end := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, end)
	if err := good.Start(ending, "c1"); !errdefs.IsUnavailable(err) {
		t.Errorf("a runtime at work when the shim ends: %v", err)
	}
}

// TestForkedButNotExecuted: a runtime that has not run must not count as one that failed.
func TestForkedButNotExecuted(t *testing.T) {
	census(t)
	silent, _ := scripted(t, `exit 253`)
	if err := silent.Start(t.Context(), "c1"); !errdefs.IsResourceExhausted(err) || !neverRan(err) {
		t.Errorf("got %v, want ResourceExhausted of a runtime that never ran", err)
	}
	speaking, _ := scripted(t, `echo no >&2; exit 253`)
	if err := speaking.Start(t.Context(), "c1"); !errdefs.IsInternal(err) || neverRan(err) {
		t.Errorf("with a text: got %v, want Internal", err)
	}
}

// TestExistsWhenInDoubt: a container that could not be looked for counted as none, and a
// failed create of its name deleted it.
func TestExistsWhenInDoubt(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink("loop", filepath.Join(root, "loop")); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{root: false, filepath.Join(root, "loop"): true} {
		if got := (&runcRuntime{RuntimeConfig: RuntimeConfig{Root: dir}}).Exists("c1"); got != want {
			t.Errorf("%s: %v, want %v", dir, got, want)
		}
	}
}

func TestDeleteOfWhatTheRuntimeDoesNotKnow(t *testing.T) {
	census(t)
	for _, msg := range []string{
		"container does not exist",                                        // runc
		"cannot open directory '/run/crun/c1': No such file or directory", // crun up to 1.8.1
		"cannot open directory `/run/crun/c1`: No such file or directory", // crun 1.21 and 1.28, after a checkpoint with exit
	} {
		r, program := scripted(t, `cat "$(dirname "$0")/text" > $log; exit 1`)
		text := `{"level":"error","msg":"` + msg + `"}`
		if err := os.WriteFile(filepath.Join(filepath.Dir(program), "text"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Delete(t.Context(), "c1", false); err != nil {
			t.Errorf("got %v", err)
		}
	}
}

// crun's restore is no subreaper of its own, and refuses the option that says so; runc must
// be told, or orphans of the container are its children for as long as it runs.
func TestOnlyRuncIsToldToBeNoSubreaper(t *testing.T) {
	census(t)
	for name, body := range map[string]string{
		"runc": `case "$*" in *--version*) printf 'runc version 1.1.5\nspec: 1.0.2\n' ;; *-no-subreaper*) ;; *) exit 1 ;; esac`,
		"crun": `case "$*" in *--version*) printf 'crun version 1.21\ncommit: x\n' ;; *-no-subreaper*) exit 64 ;; esac`,
	} {
		r, _ := scripted(t, body)
		io, err := stdio.Open(stdio.Config{Limits: shortLimits()})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Restore(t.Context(), "c1", "/bundle", RestoreCall{CreateCall: CreateCall{IO: io}, ImagePath: "/image"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		io.Abort()
	}
}

func TestSinceRunc12(t *testing.T) {
	for text, want := range map[string]bool{
		"1.0.0-rc93": false, "1.1.5+ds1": false, "1.2.0": true, "1.2.0-rc.1": true, "1.3": true, "2.0.0": true, "": false, "x.y": false,
	} {
		if got := sinceRunc12(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// B38: what a failed call has opened is closed at once, not by the collector.
func TestFailedCallsKeepNoDescriptor(t *testing.T) {
	census(t)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	r, _ := scripted(t, `echo '{"level":"error","msg":"no"}' > $log; exit 1`)
	before := len(proctest.Descriptors())
	for range 10 {
		if err := r.Start(t.Context(), "c1"); err == nil {
			t.Error("no error")
		}
	}
	if now := len(proctest.Descriptors()); now > before {
		t.Errorf("%d descriptors, were %d: %v", now, before, proctest.Descriptors())
	}
}
