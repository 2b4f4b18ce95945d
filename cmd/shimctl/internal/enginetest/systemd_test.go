// SPDX-License-Identifier: Apache-2.0

//go:build engines

package enginetest

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// The timer and its service under a real systemd, the first process of a
// container: started, sandboxed as the unit says, and started again. All that
// is changed is the times of the timer. The shim there never answers.
func TestTimerUnderSystemd(t *testing.T) {
	bundle := t.TempDir()
	units, textfile := filepath.Join(bundle, "units"), filepath.Join(bundle, "textfile")
	for _, dir := range []string{units, textfile, filepath.Join(units, "shimctl-export.timer.d")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tools := filepath.Dir(shimtest.Shimctl(t))
	const bare = "[Unit]\nDefaultDependencies=no\n"
	files := map[string]string{
		"fleet.target": bare + "Wants=probe.service shimctl-export.timer\n",
		"probe.service": "[Service]\nRuntimeDirectory=probe\nWorkingDirectory=/run/probe\n" +
			"ExecStart=/run/fleet/bin/fake-containerd-shim -namespace shimtest -workdir /run/shimtest/asleep\n",
		// An empty OnBootSec= takes all times away.
		"shimctl-export.timer.d/soon.conf": "[Timer]\nOnBootSec=\nOnBootSec=1s\nOnUnitInactiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=1ms\n",
	}
	for _, target := range []string{"sysinit", "basic", "timers", "shutdown"} {
		files[target+".target"] = bare
	}
	for _, name := range []string{"shimctl-export.service", "shimctl-export.timer"} {
		files[name] = strings.ReplaceAll(shipped(t, name), tools, "/run/fleet/bin")
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(units, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	caps := capabilities(t)
	mount := func(to, kind, from string, options ...string) map[string]any {
		return map[string]any{"destination": to, "type": kind, "source": from, "options": options}
	}
	spec, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.2",
		"root":       map[string]any{"path": hostRoot(t), "readonly": true},
		"process": map[string]any{
			"user": map[string]any{"uid": 0, "gid": 0}, "cwd": "/", "args": []string{"/lib/systemd/systemd", "--system", "--unit=fleet.target"},
			"env":          []string{"container=oci", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_UNIT_PATH=/run/fleet/units"},
			"capabilities": map[string]any{"bounding": caps, "effective": caps, "permitted": caps},
		},
		"mounts": []map[string]any{
			mount("/proc", "proc", "proc"), mount("/dev", "tmpfs", "tmpfs"), mount("/sys", "sysfs", "sysfs", "ro"), mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw"),
			mount("/run", "tmpfs", "tmpfs"), mount("/var/lib", "tmpfs", "tmpfs"), mount("/run/fleet/units", "bind", units, "rbind", "ro"), mount("/run/fleet/bin", "bind", tools, "rbind", "ro"),
			mount("/var/lib/prometheus/node-exporter", "bind", textfile, "rbind"),
		},
		"linux": map[string]any{"namespaces": []map[string]any{{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "pid"}, {"type": "cgroup"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), spec, 0o600); err != nil {
		t.Fatal(err)
	}
	id, root := "fleet-systemd-"+strconv.Itoa(int(time.Now().UnixNano()%1e9)), filepath.Join(bundle, "runc")
	run := exec.Command("runc", "--root", root, "run", "--detach", "--bundle", bundle, id) // streams on /dev/null: it outlives runc
	if err := run.Run(); err != nil {
		t.Fatalf("runc run: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := exec.Command("runc", "--root", root, "exec", id, "systemctl", "--no-pager", "status", "shimctl-export.service", "shimctl-export.timer").CombinedOutput()
			t.Logf("systemctl status:\n%s", said)
		}
		said, err := exec.Command("runc", "--root", root, "delete", "--force", id).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, said)
		}
	})
	stamp := regexp.MustCompile(`(?m)^containerd_shim_scan_timestamp_seconds (\d+)$`)
	seen := map[string]bool{}
	shimtest.Until(t, 60*time.Second, "two runs of the service", func() bool {
		b, _ := os.ReadFile(filepath.Join(textfile, "containerd_shim.prom"))
		m := stamp.FindSubmatch(b)
		if m == nil {
			return false
		}
		if !strings.Contains(string(b), `containerd_shims{verdict="suspect"} 1`) {
			t.Fatalf("it does not see the shim:\n%s", b)
		}
		seen[string(m[1])] = true
		return len(seen) == 2
	})
}

// hostRoot shows the host's root directory at another path. That is read-only, and not below a
// directory of the test, which would be removed with all that is in it if it were still mounted.
func hostRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "hostroot")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/", dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir)); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A failure at any moment must not cost the host its files.
func TestHostRootIsReadOnly(t *testing.T) {
	dir := ""
	t.Run("mounted", func(t *testing.T) {
		dir = hostRoot(t)
		if err := os.Mkdir(filepath.Join(dir, "tmp", filepath.Base(dir)), 0o700); !errors.Is(err, unix.EROFS) {
			t.Errorf("got %v", err)
		}
		if below, err := filepath.Rel(filepath.Dir(t.TempDir()), dir); err != nil || !strings.HasPrefix(below, "..") {
			t.Errorf("%s is removed with the test's directories", dir)
		}
	})
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// capabilities are all that we have ourselves.
func capabilities(t *testing.T) (names []string) {
	t.Helper()
	out, err := exec.Command("setpriv", "--dump").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^Capability bounding set: (.*)$`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("setpriv --dump says\n%s", out)
	}
	for _, c := range strings.Split(string(m[1]), ",") {
		names = append(names, "CAP_"+strings.ToUpper(c))
	}
	return names
}
