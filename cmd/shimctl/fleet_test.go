// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// upgradeLine is what a program that drives a roll-out reads.
type upgradeLine struct {
	Schema, Namespace, ID, Result, Detail, Evidence string

	PID       int
	StoppedMS float64 `json:"stopped_ms"`
	Taken     struct {
		Processes int `json:"processes"`
	} `json:"taken_over"`
}

func sum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%X", sha256.Sum256(b))
}

// TestUpgradeAFleet: the wedged one of two is healed and counted, and the other is not
// touched; it stops at the first that goes wrong.
func TestUpgradeAFleet(t *testing.T) {
	healthy, wedged := started(t, shimtest.Baseline(t, "v1.2.6")), started(t, shimtest.Baseline(t, "v1.1.2"))
	wedged.Wedge(t)
	dir, own := t.TempDir(), shimtest.Own(t)
	p := underTest()
	upgrade := func(args ...string) (int, []upgradeLine, string) {
		args = append([]string{"upgrade", "-o", "json", "-dir", dir, "-state-file", "", "-binary", own}, args...)
		status, o, e := p.capture(t, append(args, strconv.Itoa(healthy.PID), strconv.Itoa(wedged.PID))...)
		var lines []upgradeLine
		for d := json.NewDecoder(strings.NewReader(o)); d.More(); {
			var line upgradeLine
			if err := d.Decode(&line); err != nil {
				t.Fatalf("%v\n%s", err, o)
			}
			lines = append(lines, line)
		}
		return status, lines, o + e
	}

	status, lines, text := upgrade("-yes", "-sha256", strings.Repeat("0", 64))
	if status != exitSome || len(lines) != 2 || lines[0].Result != resultFailed || !strings.Contains(lines[0].Detail, "has the SHA-256") ||
		lines[1].Result != resultSkipped || lines[1].PID != wedged.PID {
		t.Errorf("another program: status %d\n%s", status, text)
	}
	exe, err := os.Readlink("/proc/" + strconv.Itoa(healthy.PID) + "/exe")
	if err != nil {
		t.Fatal(err)
	}
	status, lines, text = upgrade("-yes", "-binary", exe)
	if status != exitSome || len(lines) != 2 || lines[0].Result != resultFailed || !strings.Contains(lines[0].Detail, "no shim of this project") {
		t.Errorf("the program that it runs, of upstream: status %d\n%s", status, text)
	}
	if status, _, text := upgrade("-sha256", "00"); status != exitUsage {
		t.Errorf("no checksum: status %d\n%s", status, text)
	}
	status, lines, text = upgrade("-only-wedged")
	if status != exitSome || len(lines) != 1 || lines[0].Result != resultPossible || lines[0].PID != wedged.PID || lines[0].StoppedMS <= 0 {
		t.Errorf("dry run: status %d\n%s", status, text)
	}
	status, lines, text = upgrade("-only-wedged", "-yes", "-sha256", sum(t, own))
	if status != exitOK || len(lines) != 1 || lines[0].Result != resultDone || lines[0].PID != wedged.PID || lines[0].Taken.Processes == 0 {
		t.Errorf("status %d\n%s", status, text)
	} else if _, err := os.Stat(filepath.Join(lines[0].Evidence, "stacks.txt")); err != nil {
		t.Error(err)
	}
	status, lines, text = upgrade("-yes", "-max-failures", "2", "-sha256", strings.Repeat("0", 64))
	if status != exitSome || len(lines) != 2 || lines[1].Result != resultFailed || !strings.Contains(lines[1].Detail, "has the SHA-256") {
		t.Errorf("one that runs another program than it should: status %d\n%s", status, text)
	}
	status, lines, text = upgrade("-only-wedged", "-yes")
	if status != exitOK || len(lines) != 0 {
		t.Errorf("none is wedged any more: status %d\n%s", status, text)
	}
	if now, err := os.Readlink("/proc/" + strconv.Itoa(healthy.PID) + "/exe"); err != nil || now != exe {
		t.Errorf("the healthy one runs %s, %v", now, err)
	}

	metrics := t.TempDir()
	if status, _, e := p.capture(t, "export", "-state-file", "", "-ledger", filepath.Join(dir, "repairs.json"), "-textfile-directory", metrics); status != exitOK {
		t.Fatalf("export: status %d\n%s", status, e)
	}
	b, err := os.ReadFile(filepath.Join(metrics, textfile))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`shimctl_in_place_total{result="healed"} 1`, `shimctl_in_place_total{result="failed"} 0`, `shimctl_in_place_total{result="upgraded"} 0`} {
		if !strings.Contains(string(b), line+"\n") {
			t.Errorf("no line %s in\n%s", line, b)
		}
	}
	lifeGoesOn(t, wedged)
	lifeGoesOn(t, healthy)
}
