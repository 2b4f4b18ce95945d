// SPDX-License-Identifier: Apache-2.0

package fakeruntime

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// TestInitsPidMayBeAnothers: each life of inject ends with a delete after init's end, and the host gives
// a free pid to whom it likes.
func TestInitsPidMayBeAnothers(t *testing.T) {
	bystander := exec.Command("sleep", "100")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- bystander.Wait() }()
	defer func() { _ = bystander.Process.Kill() }()
	pid := bystander.Process.Pid
	now, ok := procfs.Read(pid)
	if !ok {
		t.Fatal("it has no stat")
	}
	p := player{inv: invocation{verb: "delete", args: []string{"c"}}}
	p.dir = t.TempDir()
	for _, start := range []uint64{now.StartTime - 1, now.StartTime} {
		if err := os.WriteFile(p.initFile(), fmt.Appendf(nil, "%d %d", pid, start), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.bare(); err != nil {
			t.Fatal(err)
		}
		if start != now.StartTime && unix.Kill(pid, 0) != nil {
			t.Error("another's process was killed")
		}
	}
	if !wait.Until(10*time.Second, func() bool { return len(ended) > 0 }) {
		t.Error("init was not killed")
	}
}
