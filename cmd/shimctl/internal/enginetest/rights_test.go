// SPDX-License-Identifier: Apache-2.0

//go:build engines

package enginetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// proof is in the exported file when the wedge was proven by a dump, which takes
// every right that export can use.
const proof = `reason="ReaperDeadlock"} 1`

// list reads "key: [a, b]" of the manifest.
func list(t *testing.T, text, key string) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^ *` + key + `: \[(.*)\]`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no list %q", key)
	}
	return strings.Split(m[1], ", ")
}

// oneRun is the manifest's command line without its loop.
func oneRun(t *testing.T, args []string) []string {
	t.Helper()
	i := slices.Index(args, "-interval")
	if i < 0 {
		t.Fatalf("no -interval in %q", args)
	}
	return slices.Delete(slices.Clone(args), i, i+2)
}

// without tries a run with all capabilities, which has to work, and without
// each of them, which has not to.
func without(t *testing.T, all []string, works func(capabilities []string) (bool, string)) {
	t.Helper()
	if ok, why := works(all); !ok {
		t.Errorf("with %q it does not work:\n%s", all, why)
	}
	for i := range all {
		if ok, _ := works(slices.Delete(slices.Clone(all), i, i+1)); ok {
			t.Errorf("it works without %s", all[i])
		}
	}
}

// The DaemonSet's pod has exactly the rights that it needs: its container run
// by runc as the kubelet would have it run, on the host's pids and network.
func TestDaemonSetHasTheFewestRights(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.0"))
	shim.Wedge(t)
	manifest := shipped(t, "daemonset.yaml")
	for _, line := range []string{"hostPID: true", "hostNetwork: true", "readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false", "runAsUser: 0", "drop: [ALL]", "seccompProfile: {type: RuntimeDefault}"} {
		if !strings.Contains(manifest, line) {
			t.Errorf("the manifest lacks %q, which this container has", line)
		}
	}
	args := append(list(t, manifest, "command"), oneRun(t, list(t, manifest, "args"))...)
	without(t, list(t, manifest, "add"), func(capabilities []string) (bool, string) {
		dirs, said, _ := inContainer(t, args, capabilities, "/textfile", "/state") // the file tells
		return proven(dirs[0], said)
	})
}

// So has the container that upgrades the node's shims; here it is one shim, by its pid.
func TestUpgradeContainerHasTheFewestRights(t *testing.T) {
	patch := shipped(t, "daemonset-upgrade.yaml")
	args := append(list(t, patch, "command"), list(t, patch, "args")...)
	replace := func(what, with string) {
		i := slices.Index(args, what)
		if i < 0 {
			t.Fatalf("no %s in %q", what, args)
		}
		args[i] = with
	}
	which := "-all"
	without(t, list(t, patch, "add"), func(capabilities []string) (bool, string) {
		pid := strconv.Itoa(shimtest.Start(t, shimtest.Baseline(t, "v1.2.0")).PID)
		replace(which, pid)
		which = pid
		_, said, err := inContainer(t, args, capabilities, "/evidence")
		return err == nil && strings.Contains(said, `"result":"upgraded"`), said
	})
}

// inContainer runs shimctl as a kubelet would, with empty directories at the places
// that are named, and returns these, what it said, and how it ended.
func inContainer(t *testing.T, args, capabilities []string, places ...string) (dirs []string, said string, err error) {
	t.Helper()
	bundle := t.TempDir()
	caps := []string{}
	for _, c := range capabilities {
		caps = append(caps, "CAP_"+c)
	}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	var mounts []map[string]any
	bind := func(to string, options ...string) string {
		from := filepath.Join(bundle, "host"+filepath.Base(to))
		must(errors.Join(os.MkdirAll(from, 0o755), os.MkdirAll(filepath.Join(bundle, "rootfs", to), 0o755)))
		mounts = append(mounts, map[string]any{"destination": to, "type": "bind", "source": from, "options": append(options, "rbind", "rprivate")})
		return from
	}
	mounts = append(mounts, map[string]any{"destination": "/proc", "type": "proc", "source": "proc"})
	for _, p := range places {
		dirs = append(dirs, bind(p))
	}
	must(os.MkdirAll(filepath.Join(bundle, "rootfs/proc"), 0o755))
	binary, err := os.ReadFile(shimtest.Shimctl(t))
	must(err)
	must(os.WriteFile(filepath.Join(bundle, "rootfs/shimctl"), binary, 0o755))
	// What containerd 1.7.35 makes of the type RuntimeDefault, for a container with CAP_SYS_PTRACE.
	profile, err := os.ReadFile("testdata/seccomp.json")
	must(err)
	spec, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.2",
		"root":       map[string]any{"path": "rootfs", "readonly": true},
		"process": map[string]any{
			"user": map[string]any{"uid": 0, "gid": 0}, "cwd": "/", "args": args, "env": []string{"PATH=/"}, "noNewPrivileges": true,
			"capabilities": map[string]any{"bounding": caps, "effective": caps, "permitted": caps},
		},
		"mounts": mounts,
		"linux": map[string]any{
			"namespaces":    []map[string]any{{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}},
			"maskedPaths":   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi"},
			"seccomp":       json.RawMessage(profile),
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	})
	must(err)
	must(os.WriteFile(filepath.Join(bundle, "config.json"), spec, 0o600))
	out, err := exec.Command("runc", "--root", filepath.Join(bundle, "runc"), "run", "--bundle", bundle, filepath.Base(filepath.Dir(bundle))+"-"+filepath.Base(bundle)).CombinedOutput()
	if err != nil {
		out = append(out, err.Error()...)
	}
	return dirs, string(out), err
}

// proven reads what was exported.
func proven(dir, said string) (bool, string) {
	b, err := os.ReadFile(filepath.Join(dir, "containerd_shim.prom"))
	if err != nil {
		return false, said + err.Error()
	}
	return strings.Contains(string(b), proof), said + string(b)
}

// The unit's own command line, with the capabilities that the unit leaves it.
func TestExportUnitHasTheFewestRights(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.0"))
	shim.Wedge(t)
	unit := shipped(t, "shimctl-export.service")
	command := strings.Fields(setting(t, unit, "ExecStart"))
	at := slices.Index(command, "-textfile-directory")
	if at < 0 || command[0] != shimtest.Shimctl(t) {
		t.Fatalf("got %q", command)
	}
	dir := command[at+1]
	all := strings.Fields(setting(t, unit, "CapabilityBoundingSet"))
	without(t, all, func(capabilities []string) (bool, string) {
		// The directory is of Debian's package, and belongs to its user.
		for _, d := range []string{dir, "/run/shimctl"} {
			if err := errors.Join(os.RemoveAll(d), os.MkdirAll(d, 0o755)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		return proven(dir, confined(command, capabilities))
	})
}

// confined runs a command with these capabilities, and returns what it and its status say.
func confined(command, capabilities []string) string {
	set := "-all"
	for _, c := range capabilities {
		set += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	said, err := exec.Command("setpriv", append([]string{"--bounding-set", set, "--inh-caps", "-all", "--no-new-privs"}, command...)...).CombinedOutput()
	return fmt.Sprintf("%s\n%v", said, err)
}

// Without the rights no verb says that all is well: each says what is missing
// and how to give it.
func TestWithoutRightsItSaysWhatIsMissing(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.7.35"))
	pid := strconv.Itoa(shim.PID)
	for _, args := range [][]string{{"check"}, {"check", "-state-file", ""}, {"check", "-o", "nagios"}, {"stacks", pid}, {"explain", pid}, {"repair", "-state-file", "", pid}, {"export", "-textfile-directory", t.TempDir(), "-state-file", ""}} {
		cmd := exec.Command("setpriv", append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", shimtest.Shimctl(t)}, args...)...)
		said, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); err == nil || code != 2 && !(code == 3 && args[len(args)-1] == "nagios") || !strings.Contains(string(said), "needs root, with CAP_SYS_PTRACE") {
			t.Errorf("%q: status %d\n%s", args, code, said)
		}
		if first, _, _ := strings.Cut(string(said), "\n"); !strings.Contains(first, "needs root") {
			t.Errorf("%q: the reason is not the first line\n%s", args, said)
		}
	}
}

// setting is a unit's only line of that name.
func setting(t *testing.T, unit, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(unit, -1)
	if len(m) != 1 {
		t.Fatalf("%d lines %s", len(m), name)
	}
	return m[0][1]
}
