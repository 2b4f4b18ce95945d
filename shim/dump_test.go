// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

func dumper(dir string) *Dumper {
	return &Dumper{Dir: dir, Namespace: "n/s", ID: containerID, Version: "1"}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestDumpIsOneCompleteFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path, err := dumper(dir).Dump()
	if err != nil {
		t.Fatal(err)
	}
	if names := files(t, dir); len(names) != 1 || names[0] != filepath.Base(path) {
		t.Errorf("files %q, dump %s", names, path)
	}
	for p, want := range map[string]os.FileMode{path: 0o600, dir: 0o700 | os.ModeDir} {
		if st, err := os.Stat(p); err != nil || st.Mode() != want {
			t.Errorf("%s: mode %v, want %v (%v)", p, st.Mode(), want, err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{"id: " + containerID + "\n", "namespace: n/s\n", "TestDumpIsOneCompleteFile"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the dump", want)
		}
	}
	if !strings.HasSuffix(text, dumpEnd) {
		t.Errorf("the dump ends with %q", text[max(0, len(text)-50):])
	}
}

// TestDumpsAreBounded keeps this shim's newest ten and others' all.
func TestDumpsAreBounded(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "n_s.c1.1.20200101T000000.000000000Z.1.stacks")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := dumper(dir)
	var paths []string
	for range 2*keepDumps + 3 {
		path, err := d.Dump()
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	for i, path := range paths {
		_, err := os.Stat(path)
		if kept, want := err == nil, i >= len(paths)-keepDumps; kept != want {
			t.Errorf("dump %d of %d kept: %v", i+1, len(paths), kept)
		}
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("another shim's dump: %v", err)
	}
}

// TestDumpAfterTheClockWasSetBack: the newest is kept though its name sorts first.
func TestDumpAfterTheClockWasSetBack(t *testing.T) {
	dir := t.TempDir()
	d := dumper(dir)
	for i := range keepDumps {
		later := filepath.Join(dir, fmt.Sprintf("%s21000101T000000.%09dZ.%d.stacks", d.prefix(), i, i))
		if err := os.WriteFile(later, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path, err := d.Dump()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil || len(files(t, dir)) != keepDumps {
		t.Errorf("%v, %d dumps", err, len(files(t, dir)))
	}
}

// TestDumpOnAFullOrReadOnlyDisk: an error, and nothing is left of it.
func TestDumpOnAFullOrReadOnlyDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8k"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	full := filepath.Join(dir, "full")
	if err := os.WriteFile(full, make([]byte, 8<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if path, err := dumper(dir).Dump(); err == nil || path != "" {
		t.Errorf("dump on a full disk: %q, %v", path, err)
	}
	if names := files(t, dir); len(names) != 1 {
		t.Errorf("left behind: %q", names)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := dumper(dir).Dump(); err == nil {
		t.Error("dump on a read-only disk: no error")
	}
}

// TestDumpWhileEveryLockIsHeld is I6; an RPC that is stuck shows with its
// method and id.
// +checklocksignore
func TestDumpWhileEveryLockIsHeld(t *testing.T) {
	t.Setenv("GODEBUG", "tracebacklabels=1")
	r := newRig(t, false)
	r.run()
	stuck, release := make(chan struct{}), make(chan struct{})
	r.runtime.on("exec", func(string) error { close(stuck); <-release; return nil })
	r.must(r.exec("stuck-exec", "exit", "0"))
	answer := make(chan error, 1)
	go func() {
		_, err := r.client.Start(r.ctx(), &api.StartRequest{ID: "stuck-exec"})
		answer <- err
	}()
	receive(t, "the stuck exec", stuck)
	held := mutexes(r.sup, logrus.StandardLogger())
	var locked []*sync.Mutex
	for m, path := range held {
		eventually(t, "lock of "+path, m.TryLock) // whoever has it has it for a few instructions
		locked = append(locked, m)
	}
	// The supervisor, the outbox, a tenant, two processes, the reaper, children,
	// the logger, and what belongs to contexts.
	for _, part := range []string{"Supervisor.mu", "Outbox.mu", "tenant.mu", "Init.process.mu", "Exec.process.mu", "Reaper.mu", "Child.mu", "Logger.mu"} {
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
		path, err := dumper(dir).Dump()
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
// and slices, but not functions and channels.
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
			walk(v.Elem(), path)
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
