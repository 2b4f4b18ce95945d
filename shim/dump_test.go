// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"containerd-shim.v1/internal/stackdump"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/sirupsen/logrus"
)

// TestDumpWhileEveryLockIsHeld is I6. An RPC that is stuck is shown with its
// method and id.
// +checklocksignore
func TestDumpWhileEveryLockIsHeld(t *testing.T) {
	t.Setenv("GODEBUG", "tracebacklabels=1")
	r := newRig(t, false)
	r.run()
	stuck, release := make(chan struct{}), make(chan struct{})
	r.runtime.on("exec", func(string) error { close(stuck); <-release; return nil })
	r.must(r.exec("stuck-exec", "exit", "0"))
	answer := calling(func() error { _, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "stuck-exec"}); return err })
	receive(t, "the stuck exec", stuck)
	// The last reply may still be being written; its request is then forgotten.
	writes := &r.sup.conns.writes
	writes.Shut()
	eventually(t, "nobody to write", func() bool { return writes.Inside() == 0 })
	held := mutexes(r.sup, logrus.StandardLogger())
	writes.Open()
	var locked []*sync.Mutex
	for m, path := range held {
		eventually(t, "lock of "+path, m.TryLock) // whoever holds it does so for a few instructions
		locked = append(locked, m)
	}
	// The supervisor, the exits, the outbox, two processes, the reaper, children,
	// the logger, and what belongs to contexts.
	for _, part := range []string{"Supervisor.mu", "Outbox.mu", "exits.mu", "Init.process.mu", "Exec.process.mu", "Reaper.mu", "Child.mu", "Logger.mu"} {
		if !slices.ContainsFunc(slices.Collect(maps.Values(held)), func(path string) bool { return strings.HasSuffix(path, part) || strings.Contains(path, part+".") }) {
			t.Errorf("%s is not among the %d mutexes found", part, len(held))
		}
	}
	type result struct {
		path string
		err  error
	}
	done := make(chan result, 1)
	dir := t.TempDir()
	go func() {
		w := stackdump.NewWriter(dir, "", "n", containerID, "1")
		path, err := w.Save(w.Take())
		done <- result{path, err}
	}()
	got := receive(t, "a dump with every lock held", done)
	for _, m := range locked {
		m.Unlock()
	}
	r.must(got.err)
	data, err := os.ReadFile(got.path)
	r.must(err)
	for _, want := range []string{`"rpc":"Start"`, `"id":"stuck-exec"`} {
		if !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(string(data), `": "`, `":"`), " ", ""), want) {
			t.Errorf("no label %s in the dump:\n%.2000s", want, data)
		}
	}
	close(release)
	r.must(receive(t, "answer to Start", answer))
}

// mutexes finds every mutex that can be reached from roots, with the type and
// the name of the field that holds it. It follows pointers, interfaces, maps
// and slices, but not functions, channels and contexts: a context's children come
// and go by themselves.
func mutexes(roots ...any) map[*sync.Mutex]string {
	found := make(map[*sync.Mutex]string)
	seen := make(map[unsafe.Pointer]map[reflect.Type]bool)
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		switch v.Kind() {
		case reflect.Pointer:
			p := v.UnsafePointer()
			if p == nil || seen[p][v.Type()] {
				return
			}
			if seen[p] == nil {
				seen[p] = make(map[reflect.Type]bool)
			}
			seen[p][v.Type()] = true
			walk(v.Elem(), v.Type().Elem().Name())
		case reflect.Interface:
			if v.Type() != reflect.TypeFor[context.Context]() {
				walk(v.Elem(), path)
			}
		case reflect.Map:
			for i := v.MapRange(); i.Next(); {
				walk(i.Key(), path)
				walk(i.Value(), path)
			}
		case reflect.Slice, reflect.Array:
			if k := v.Type().Elem().Kind(); k < reflect.Array { // numbers
				return
			}
			for i := range v.Len() {
				walk(v.Index(i), path)
			}
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[sync.Mutex]() {
				if v.CanAddr() {
					found[(*sync.Mutex)(v.Addr().UnsafePointer())] = path
				}
				return
			}
			for i := range v.NumField() {
				walk(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		}
	}
	for _, root := range roots {
		walk(reflect.ValueOf(root), "")
	}
	return found
}
