// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/rounds"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/integration/harness/wait"
)

func testRound() *rounds.Round {
	id := strings.Repeat("0b6e455ae5fe1234", 4)
	return &rounds.Round{Time: time.Unix(1700000000, 0), Took: 12 * time.Millisecond, Rows: []rounds.Row{
		{Shim: scan.Shim{Namespace: "moby", ID: "a", PID: 1, Build: scan.Build{Ours: true}}, Result: health.Result{Verdict: health.Healthy}},
		{Shim: scan.Shim{Namespace: "moby", ID: id, PID: 3776, Zombies: make([]scan.Process, 142)},
			Result: health.Result{Verdict: health.Wedged, Reason: "ReaperDeadlock", Confirmed: true, Since: time.Unix(1699999000, 0)}},
	}}
}

func TestFormats(t *testing.T) {
	tests := map[string][]string{
		"table":  {"moby", "0b6e455ae5fe", "142", "Wedged!", "ReaperDeadlock"},
		"json":   {`"schema": "shimctl/v1"`, `"verdict": "Wedged"`, `"confirmed": true`, `"since": "2023-11-14`, `"wedged": 1`},
		"npd":    {"1/2 shims wedged: moby/0b6e455ae5fe pid 3776 ReaperDeadlock\n"},
		"nagios": {"SHIMS CRITICAL - moby/0b6e455ae5fe pid 3776 ReaperDeadlock | shims=2 wedged=1 suspect=0\n"},
		"prom": {`containerd_shims{verdict="wedged"} 1`, `reason="ReaperDeadlock"} 1`, "containerd_shim_zombies_max 142",
			"containerd_shim_unpatched 1", "containerd_shim_scan_timestamp_seconds 1700000000", "containerd_shim_scan_duration_seconds 0.012"},
	}
	for name, wants := range tests {
		var b bytes.Buffer
		if err := formats[name](&b, testRound()); err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s lacks %q:\n%s", name, want, b.String())
			}
		}
	}
	if len(formats) != len(tests) {
		t.Errorf("%d formats, %d tested", len(formats), len(tests))
	}
}

// A v2 shim is no row; that used to be an empty table and status 0.
func TestCheckSaysThatItJudgesNoV2Shim(t *testing.T) {
	name := filepath.Join(t.TempDir(), "containerd-shim-runc-v2")
	if err := os.Symlink("/bin/sh", name); err != nil {
		t.Fatal(err)
	}
	v2 := &exec.Cmd{Path: name, Args: []string{name, "-c", "read x", "-namespace", "check-v2-test", "-id", "c"}}
	stdin, err := v2.StdinPipe() // it reads until this is closed
	if err != nil {
		t.Fatal(err)
	}
	if err := v2.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close(); _ = v2.Wait() }()
	if !wait.Until(10*time.Second, func() bool { _, ok := scan.One(procRoot, v2.Process.Pid, 0); return ok }) {
		t.Fatal("it is not seen as a shim")
	}
	status, o, e := capture(t, "check", "-state-file", "", strconv.Itoa(v2.Process.Pid))
	if status != exitCheck || o != "" || !strings.Contains(e, "is a v2 shim, which is not judged") {
		t.Errorf("by pid: status %d, %q, %q", status, o, e)
	}
	status, o, e = capture(t, "check", "-state-file", "", "-n", "check-v2-test")
	if status != exitOK || strings.Count(o, "\n") != 1 || !strings.Contains(e, "1 v2 shims are not judged") {
		t.Errorf("by namespace: status %d, %q, %q", status, o, e)
	}
}
