// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestBadCreates: each is refused with the right code and a sentence, and leaves
// nothing behind; a good one after them succeeds.
func TestBadCreates(t *testing.T) {
	r := newRig(t, false)
	missing := filepath.Join(r.bundle, "missing")
	r.expect("connected", unknownIDs("nobody")) // the connection's goroutines are there
	before := runtime.NumGoroutine()
	for name, c := range map[string]struct {
		change func(*api.CreateTaskRequest)
		text   string
	}{
		"no id":                  {func(q *api.CreateTaskRequest) { q.ID = "" }, "an id is empty"},
		"id with a slash":        {func(q *api.CreateTaskRequest) { q.ID = "a/b" }, "not a plain file name"},
		"id ..":                  {func(q *api.CreateTaskRequest) { q.ID = ".." }, "not a plain file name"},
		"id of 300 characters":   {func(q *api.CreateTaskRequest) { q.ID = strings.Repeat("x", 300) }, "longer than 200"},
		"no bundle":              {func(q *api.CreateTaskRequest) { q.Bundle = missing }, "is not a directory"},
		"missing FIFO":           {func(q *api.CreateTaskRequest) { q.Stdout = missing }, "no such file"},
		"FIFO that is a folder":  {func(q *api.CreateTaskRequest) { q.Stderr = r.bundle }, "is a directory"},
		"input that is a folder": {func(q *api.CreateTaskRequest) { q.Stdin = r.bundle }, "is a directory"},
		"options of no type":     {func(q *api.CreateTaskRequest) { q.Options = &anypb.Any{TypeUrl: "x"} }, "options of type"},
	} {
		q := r.createRequest()
		c.change(q)
		_, err := r.client.Create(r.ctx(), q)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want InvalidArgument and %q", name, err, c.text)
		}
	}
	if n := r.runtime.called("create"); n != 0 {
		t.Errorf("the runtime was run %d times, want 0", n)
	}
	eventually(t, "the end of the goroutines of the creates", func() bool { return runtime.NumGoroutine() <= before })
	r.run()
}

// TestBadExecs is the same for Start of an exec, which opens its streams; it may
// be repeated, and the exec deleted.
func TestBadExecs(t *testing.T) {
	r := newRig(t, false)
	r.run()
	spec := &anypb.Any{Value: []byte(`{"args":["exit","0"]}`)}
	before := runtime.NumGoroutine()
	for name, q := range map[string]*api.ExecProcessRequest{
		"missing":   {ID: "e", Spec: spec, Stdout: filepath.Join(r.bundle, "missing")},
		"directory": {ID: "e", Spec: spec, Stderr: r.bundle},
		"terminal":  {ID: "e", Spec: spec, Stdin: r.bundle, Terminal: true},
	} {
		_, err := r.client.Exec(r.ctx(), q)
		r.must(err)
		for range 2 {
			_, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "e"})
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), r.bundle) {
				t.Errorf("%s: %v, want InvalidArgument and the path", name, err)
			}
		}
		_, err = r.client.DeleteProcess(r.ctx(), &api.DeleteProcessRequest{ID: "e"})
		r.must(err)
	}
	for name, value := range map[string]string{"none": "", "broken": "{", "no args": "{}"} {
		_, err := r.client.Exec(r.ctx(), &api.ExecProcessRequest{ID: "e", Spec: &anypb.Any{Value: []byte(value)}})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "exec process spec") {
			t.Errorf("spec %s: %v", name, err)
		}
	}
	if n := r.runtime.called("exec"); n != 0 {
		t.Errorf("the runtime was run %d times, want 0", n)
	}
	eventually(t, "the end of the goroutines of the starts", func() bool { return runtime.NumGoroutine() <= before })
	r.execRun("e", "exit", "3")
	if got := r.wait("e").ExitStatus; got != 3 {
		t.Errorf("status %d", got)
	}
}

// TestOthersWhileOneExecHangs: Kill, Wait and Delete of other execs, and of the
// container, answer while the runtime of one hangs (B07, B08).
func TestOthersWhileOneExecHangs(t *testing.T) {
	r := newRig(t, false)
	r.run()
	r.execRun("other", "wait", "0")
	hangs, release := make(chan struct{}), make(chan struct{})
	r.runtime.on("exec", func(string) error { close(hangs); <-release; return nil })
	r.must(r.exec("hung", "exit", "0"))
	started := calling(func() error { _, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "hung"}); return err })
	receive(t, "exec", hangs)
	short, cancel := context.WithTimeout(r.ctx(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.client.Kill(short, &api.KillRequest{ID: "hung", Signal: 9}); !gaveUp(err) { // F2
		t.Errorf("Kill of the exec that hangs: %v", err)
	}
	r.state("hung")
	r.must(r.kill("other", 9))
	if got := r.wait("other").ExitStatus; got != 137 {
		t.Errorf("status %d", got)
	}
	resp, err := r.client.DeleteProcess(r.ctx(), &api.DeleteProcessRequest{ID: "other"})
	if err != nil || resp.ExitStatus != 137 {
		t.Errorf("DeleteProcess: %v, %v", resp, err)
	}
	r.must(r.kill(containerID, 9))
	if got := r.wait(containerID).ExitStatus; got != 137 {
		t.Errorf("status %d", got)
	}
	close(release)
	if err := receive(t, "answer to Start", started); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Start that ended in a dead container: %v", err)
	}
}
