// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
)

// cgroupFile reads a file of a docker container's cgroup.
func cgroupFile(t *testing.T, controller, id, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(cgroupRoot, controller, shared.Name, "docker", id, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestDockerUpdateChangesTheCgroup(t *testing.T) {
	id := container(t, shared, []string{"--memory", "64m"}, "sleep", "100000")
	must(t, docker(t, "update", "--memory", "32m", "--memory-swap", "48m", "--cpu-shares", "123", id))
	for file, want := range map[[2]string]string{
		{"memory", "memory.limit_in_bytes"}: "33554432",
		{"cpu", "cpu.shares"}:               "123",
	} {
		if got := cgroupFile(t, file[0], id, file[1]); got != want {
			t.Errorf("%s: got %s, want %s", file[1], got, want)
		}
	}
}

func TestDockerStatsShowsLimitAndProcesses(t *testing.T) {
	id := container(t, shared, []string{"--memory", "64m"}, "sh", "-c", "sleep 100000 & sleep 100000")
	var got string
	if !wait.Until(20*time.Second, func() bool {
		got = must(t, docker(t, "stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", id))
		return strings.HasSuffix(got, "/ 64MiB 2") && !strings.HasPrefix(got, "0B")
	}) {
		t.Errorf("got %q, want more than 0B used, a limit of 64MiB and 2 processes", got)
	}
}

func TestDockerOOMIs137AndSaysSo(t *testing.T) {
	id := container(t, shared, []string{"--memory", "16m"}, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
	if got, want := ended(t, shared, id), "137"; got != want {
		t.Errorf("got exit code %s, want %s", got, want)
	}
	// containerd tells it by another way than the exit.
	if !wait.Until(20*time.Second, func() bool { return inspect(t, shared, id, "{{.State.OOMKilled}}") == "true" }) {
		t.Error("OOMKilled is not true")
	}
}

func TestDockerOOMOfExecIs137AndSparesContainer(t *testing.T) {
	id := container(t, shared, []string{"--memory", "16m"}, "sleep", "100000")
	if got := do(t, docker(t, "exec", id, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")); got.code != 137 {
		t.Errorf("got %v, want exit 137", got)
	}
	if got, want := must(t, docker(t, "exec", id, "echo", "alive")), "alive"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
