// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/procfs"
)

// Limits and the score of the OOM killer go from the daemon through the shim to a
// container, unless the container has its own, also after the shim has exchanged its
// program. The soft limit of descriptors is the hard one here: Debian 12's containerd and
// runc are built with a Go that raises their own and hands that down.
func TestContainerHasTheDaemonsLimitsAndItsOwnScore(t *testing.T) {
	r := idleRig(t, shimUnderTest())
	r.Before = "ulimit -n 3000; ulimit -c 1000; echo 200 >/proc/self/oom_score_adj"
	if err := errors.Join(r.StartContainerd(limited(t, 2*startLimit)), r.StartDockerd(limited(t, 2*startLimit))); err != nil {
		t.Fatal(err)
	}
	const ask = "ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj"
	id := container(t, r, []string{"--oom-score-adj", "500"}, "sh", "-c", ask+"; sleep 100000")
	shim, err := r.Shim(dockerNamespace, id)
	if err != nil {
		t.Fatal(err)
	}
	const want = "3000\n3000\n1000\n500"
	eventually(t, commandLimit, "the container says what it has", func() bool {
		return strings.Count(must(t, dockerOn(t, r, "logs", id)), "\n") == 3
	})
	if got := must(t, dockerOn(t, r, "logs", id)); got != want {
		t.Errorf("container: got %q, want %q", got, want)
	}
	score, err := os.ReadFile(procfs.File(shim.Pid, "oom_score_adj"))
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"before", "after"} {
		if got := must(t, dockerOn(t, r, "exec", id, "sh", "-c", ask)); got != want {
			t.Errorf("exec %s the exchange: got %q, want %q", when, got, want)
		}
		swap(t, shim)
	}
	// The daemon gives the shim one more than it has itself.
	if after, err := os.ReadFile(procfs.File(shim.Pid, "oom_score_adj")); err != nil || string(after) != string(score) || string(after) != "201\n" {
		t.Errorf("oom_score_adj of the shim: got %q, then %q and %v, want 201 twice", score, after, err)
	}
}

// Some hosts mount /run with noexec and nosuid. The bundles are there, with the root file
// systems mounted below them.
func TestStateOnANoexecFileSystem(t *testing.T) {
	r := idleRig(t, shimUnderTest())
	if err := os.Mkdir(r.path("state"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", r.path("state"), "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, "mode=0711"); err != nil {
		t.Fatal(err)
	}
	const id = "noexec"
	shim, err := r.Sleeper(limited(t, 2*startLimit), id)
	if err != nil {
		t.Fatal(err)
	}
	ctx := limited(t, commandLimit)
	exec := func(name string, want int) {
		got := do(t, r.Ctr(ctx, "tasks", "exec", "--exec-id", name, "--fifo-dir", r.path("fifo"), id, "sh", "-c", fmt.Sprint("exit ", want)))
		if got.code != want {
			t.Errorf("exec: got %v, want exit %d", got, want)
		}
	}
	exec("e1", 21)
	swap(t, shim)
	exec("e2", 22)
	if err := r.Remove(ctx, id); err != nil {
		t.Error(err)
	}
}
