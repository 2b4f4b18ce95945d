// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"containerd-shim.v1/integration/harness/procfs"
)

// toBeKilled is the variable that turns this program into one that is killed with its daemon running.
const toBeKilled = "SHIMRIG_TO_BE_KILLED"

func live(r *Rig) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*startLimit)
	defer cancel()
	if err := errors.Join(r.StartContainerd(ctx), r.Run(ctx, "left", nil, "sleep", "1000"), r.Ctr(ctx, "tasks", "pause", "left").Run()); err != nil {
		fmt.Fprintln(os.Stderr, err, r.Close())
		return 1
	}
	fmt.Println(r.Dir)
	select {}
}

// TestAbandonedRig: what a rig leaves whose owner was killed (by its parent's end, say)
// the next one removes: containerd, shim, container, mounts, cgroups.
func TestAbandonedRig(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env, cmd.Stderr = append(os.Environ(), toBeKilled+"=1"), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir, err := bufio.NewReader(out).ReadString('\n')
	if e := cmd.Process.Kill(); err != nil || e != nil {
		t.Fatal(err, e)
	}
	_ = cmd.Wait() // it was killed
	left := &Rig{Dir: strings.TrimSpace(dir), Name: filepath.Base(strings.TrimSpace(dir))}
	if n := len(left.processes()); n < 3 {
		t.Errorf("%d processes of it are left, want at least containerd, a shim and a container", n)
	}
	socket := left.socket(left.Name, "left")
	if _, err := os.Stat(socket); err != nil {
		t.Error(err)
	}
	next, err := New(shimUnderTest())
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	if found := left.processes(); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the shim's socket is left")
	}
	if _, err := os.Stat(left.Dir); !errors.Is(err, fs.ErrNotExist) || len(procfs.MountsUnder(left.Dir)) > 0 || len(left.cgroups()) > 0 {
		t.Errorf("%v, mounts %v, cgroups %v", err, procfs.MountsUnder(left.Dir), left.cgroups())
	}
}
