// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestCensusSeesEachKind: the census finds a leftover of each kind. One that it did not
// look for would never be missed.
func TestCensusSeesEachKind(t *testing.T) {
	dir := t.TempDir()
	r := &Rig{Dir: dir, Name: filepath.Base(filepath.Dir(dir)), ids: map[string]string{"c": "ns"}}
	cgroup := filepath.Join(cgroupRoot, "pids", r.Name, "c")
	for _, d := range []string{cgroup, r.path("state", Runtime, "ns", "c"), r.path("root", Runtime), r.path("docker", "exec"), r.path("tmp", "t"), socketRoot} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = os.Remove(cgroup), os.Remove(filepath.Dir(cgroup)) })
	// The parent of sleep, sh, ends: a child of this process would not count.
	must(t, exec.Command("sh", "-c", "sleep 100 </dev/null >/dev/null 2>&1 & echo $! >"+cgroup+"/cgroup.procs; cd "+dir+"; mkdir m; mkfifo state/f"))
	// Somebody who reads a log there is not the rig's.
	var out strings.Builder
	reader := exec.Command("sh", "-c", "touch "+dir+"/../log; tail -f "+dir+"/../log </dev/null >/dev/null 2>&1 & echo $!")
	reader.Stdout = &out
	must(t, reader)
	pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Errorf("the reader of a log: %v", err)
		}
	}()
	if err := syscall.Mount("tmpfs", r.path("m"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.socket("ns", "c"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	left, err := r.Leftovers()
	if err != nil {
		t.Error(err)
	}
	kinds := map[string]int{}
	for _, l := range left {
		kinds[l.Kind]++
	}
	for _, kind := range []string{"process", "mount", "cgroup", "fifo", "state", "socket", "file"} {
		if kinds[kind] != 1 {
			t.Errorf("%d times %s, want one, in %v", kinds[kind], kind, left)
		}
	}
	if err := r.purge(); err != nil {
		t.Error(err)
	}
	if left, _ := r.Leftovers(); len(left) > 0 {
		t.Errorf("after the purge: %v", left)
	}
}
