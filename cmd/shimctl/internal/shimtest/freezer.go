// SPDX-License-Identifier: Apache-2.0

package shimtest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
)

// Freeze freezes the process by a freezer cgroup (version 1) of its own.
// thaw lets it go on, and may be called more than once.
func Freeze(t testing.TB, pid int) (thaw func()) {
	t.Helper()
	const mount = "/sys/fs/cgroup/freezer"
	group, err := os.MkdirTemp(mount, "shimtest")
	must(t, err)
	set := func(name, value string) error { return os.WriteFile(filepath.Join(group, name), []byte(value), 0) }
	must(t, set("tasks", strconv.Itoa(pid)))
	must(t, set("cgroup.procs", strconv.Itoa(pid))) // all threads
	thaw = func() { must(t, set("freezer.state", "THAWED")) }
	t.Cleanup(func() {
		thaw()
		back := os.WriteFile(filepath.Join(mount, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
		var left error // EBUSY while a thread of it ends
		_ = wait.For(10*time.Second, "", func() bool { left = os.Remove(group); return left == nil })
		if err := errors.Join(back, left); err != nil {
			t.Error(err)
		}
	})
	must(t, set("freezer.state", "FROZEN"))
	Until(t, 10*time.Second, "the cgroup to be frozen", func() bool {
		b, err := os.ReadFile(filepath.Join(group, "freezer.state"))
		return err == nil && strings.TrimSpace(string(b)) == "FROZEN"
	})
	return thaw
}
