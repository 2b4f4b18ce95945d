// SPDX-License-Identifier: Apache-2.0

package sweep

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestRemoveWaitsForNobody: a `runc init` that was forked after the look at /proc was waited
// for in each cgroup, a minute each, before the next look.
func TestRemoveWaitsForNobody(t *testing.T) {
	dir := filepath.Join(Root, fmt.Sprintf("test-%d", os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Clean(dir); err != nil {
			t.Error(err)
		}
	})
	late := exec.Command("sleep", "100")
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- late.Wait() }()
	cg := filepath.Join("/sys/fs/cgroup/pids", Cgroup(dir))
	if err := os.MkdirAll(cg, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cg, "cgroup.procs"), []byte(strconv.Itoa(late.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	removed := make(chan error, 1)
	go func() { removed <- remove(dir) }()
	select {
	case err := <-removed:
		if err == nil {
			t.Error("the cgroup of a living process was removed")
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits")
		_ = late.Process.Kill()
		<-removed
	}
	if err := Clean(dir); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the process was not killed")
	}
}
