// SPDX-License-Identifier: Apache-2.0

//go:build engines

package enginetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// systemd has no complaint about the units, as they are installed.
func TestUnitsAreValid(t *testing.T) {
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, name := range []string{"shimctl-export.service", "shimctl-export.timer", "shimctl-repair.service", "shimctl-repair.timer", "shimctl-upgrade.service"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(shipped(t, name)), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	if said, err := exec.Command("systemd-analyze", args...).CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("%v\n%s", err, said)
	}
}

// Who stops one lets it end what it has begun: its children get no SIGTERM, and nothing gets
// SIGKILL before a shim of this project's that hangs has had its two minutes.
func TestStopLetsAnExchangeEnd(t *testing.T) {
	for _, name := range []string{"shimctl-repair.service", "shimctl-upgrade.service"} {
		unit := shipped(t, name)
		if mode, limit := setting(t, unit, "KillMode"), setting(t, unit, "TimeoutStopSec"); mode != "mixed" || limit != "3min" {
			t.Errorf("%s: KillMode=%s, TimeoutStopSec=%s", name, mode, limit)
		}
	}
}

// What none of them needs.
func TestUnitsAreConfined(t *testing.T) {
	for _, name := range []string{"shimctl-export.service", "shimctl-repair.service", "shimctl-upgrade.service"} {
		unit := shipped(t, name)
		for key, want := range map[string]string{"NoNewPrivileges": "yes", "ProtectHome": "yes", "ProtectSystem": "strict"} {
			if got := setting(t, unit, key); got != want {
				t.Errorf("%s: %s=%s, want %s", name, key, got, want)
			}
		}
	}
}
