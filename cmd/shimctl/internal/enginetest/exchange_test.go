// SPDX-License-Identifier: Apache-2.0

//go:build engines

package enginetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// exchanging are the units that exchange programs of shims, and whether that of a wedged one.
var exchanging = map[string]bool{"shimctl-repair.service": true, "shimctl-upgrade.service": false}

// upstreams starts a shim as on a host on which nothing was exchanged so far: repair waits between two.
func upstreams(t *testing.T, wedged bool) *shimtest.Shim {
	t.Helper()
	if err := os.RemoveAll("/var/lib/shimctl"); err != nil {
		t.Fatal(err)
	}
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.0"))
	if wedged {
		shim.Wedge(t)
	}
	return shim
}

// exchanged reports whether a shim runs this project's program.
func exchanged(t *testing.T, shim *shimtest.Shim) bool {
	t.Helper()
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", shim.PID))
	if err != nil {
		t.Fatal(err)
	}
	return exe == shimtest.Own(t)
}

// Their own command lines, with the capabilities that the units leave them.
func TestExchangingUnitsHaveTheFewestRights(t *testing.T) {
	for name, wedged := range exchanging {
		unit := shipped(t, name)
		without(t, strings.Fields(setting(t, unit, "CapabilityBoundingSet")), func(capabilities []string) (works bool, said string) {
			t.Run(name+strings.Join(capabilities, "+"), func(t *testing.T) { // the shim ends with it: they act on all
				shim := upstreams(t, wedged)
				said = confined(strings.Fields(setting(t, unit, "ExecStart")), capabilities)
				works = exchanged(t, shim)
			})
			return works, said
		})
	}
}

// They run under a real systemd, in the sandbox that they have there. It is that of a user, root,
// because that of the host would have other pids than the shims.
func TestExchangingUnderSystemd(t *testing.T) {
	units := t.TempDir()
	const bare = "[Unit]\nDefaultDependencies=no\n"
	files := map[string]string{"fleet.target": bare}
	for _, target := range []string{"basic", "shutdown"} {
		files[target+".target"] = bare
	}
	said := filepath.Join(units, "said")
	for name := range exchanging {
		files[name] = shipped(t, name) + "StandardOutput=append:" + said + "\nStandardError=append:" + said + "\n"
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(units, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil { // without it systemd is not there (sd_booted(3))
		t.Fatal(err)
	}
	// A user's units have their directories there.
	env := append(os.Environ(), "XDG_RUNTIME_DIR=/run", "XDG_CONFIG_HOME=/var/lib", "SYSTEMD_UNIT_PATH="+units)
	manager := exec.Command("/lib/systemd/systemd", "--user", "--unit=fleet.target")
	manager.Env = env
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = manager.Process.Kill()
		_ = manager.Wait() // killed
	})
	systemctl := func(limit time.Duration, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		cmd := exec.CommandContext(ctx, "systemctl", append([]string{"--user"}, args...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	shimtest.Until(t, time.Minute, "systemd", func() bool {
		_, err := systemctl(5*time.Second, "is-active", "fleet.target")
		return err == nil
	})
	for name, wedged := range exchanging {
		t.Run(name, func(t *testing.T) {
			shim := upstreams(t, wedged)
			out, err := systemctl(2*time.Minute, "start", name)
			if err != nil || !exchanged(t, shim) {
				text, _ := os.ReadFile(said)
				t.Errorf("%v\n%s\n%s", err, out, text)
			}
		})
	}
}
