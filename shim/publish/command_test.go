// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestBinary: what "containerd publish" is given (contract §6.2).
func TestBinary(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "containerd")
	script(t, path, "exit 0")
	if err := publish(t, Config{Address: "/nowhere/c.sock", Binary: path}); err != nil {
		t.Fatal(err)
	}
	want := []string{path + " --address /nowhere/c.sock publish --topic /tasks/exit --namespace ns"}
	if got := ran(t, dir); !slices.Equal(got, want) {
		t.Errorf("ran %q, want %q", got, want)
	}
	data, err := os.ReadFile(filepath.Join(dir, "stdin"))
	if err != nil {
		t.Fatal(err)
	}
	var a anypb.Any
	if err := proto.Unmarshal(data, &a); err != nil || a.TypeUrl != "containerd.events.TaskExit" {
		t.Errorf("stdin: %v, %v", &a, err)
	}
}

// TestRenamedBinary is contract §6.5: the daemon was upgraded under the shim.
func TestRenamedBinary(t *testing.T) {
	for _, c := range []struct{ there, flag string }{
		{"containerd", "containerd (deleted)"},
		{"containerd", "docker-containerd"},
		{"docker-containerd", "containerd"},
	} {
		dir := t.TempDir()
		script(t, filepath.Join(dir, c.there), "exit 0")
		if err := publish(t, Config{Address: "/nowhere/c.sock", Binary: filepath.Join(dir, c.flag)}); err != nil || len(ran(t, dir)) != 1 {
			t.Errorf("flag %s, file %s: %v, ran %q", c.flag, c.there, err, ran(t, dir))
		}
	}
	dir := t.TempDir()
	script(t, filepath.Join(dir, "containerd"), "exit 0")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, flag := range []string{"/opt/containerd-1.2/bin/containerd", ""} {
		_ = os.Remove(filepath.Join(dir, "ran")) // of the last round
		if err := publish(t, Config{Address: "/nowhere/c.sock", Binary: flag}); err != nil || len(ran(t, dir)) != 1 {
			t.Errorf("flag %q, file in PATH: %v", flag, err)
		}
	}
}

// TestBinaryFails is B04: the failure is told, so that the caller tries again.
func TestBinaryFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "containerd")
	script(t, path, "echo no such daemon >&2; exit 1")
	err := publish(t, Config{Address: "/nowhere/c.sock", Binary: path})
	if err == nil || !strings.Contains(err.Error(), "exit status 1: no such daemon") {
		t.Errorf("Publish: %v", err)
	}
}

// TestBinaryHangs is B05: it is killed at its bound, which grows.
func TestBinaryHangs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "containerd")
	script(t, path, "exec sleep 1000")
	b := newCommand(path, monitor)
	b.timeout = 100 * time.Millisecond
	start := time.Now()
	err := b.publish(context.Background(), "/nowhere/c.sock", event())
	if err == nil || !strings.Contains(err.Error(), "no end within 100ms") || time.Since(start) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	if b.timeout != 200*time.Millisecond {
		t.Errorf("next bound %v", b.timeout)
	}
	script(t, path, "exit 0")
	if err := b.publish(context.Background(), "/nowhere/c.sock", event()); err != nil || b.timeout != binaryFirst {
		t.Errorf("%v, next bound %v", err, b.timeout)
	}
}
