// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"containerd-shim/cmd/shimctl/internal/judge"
	"containerd-shim/cmd/shimctl/internal/scan"
)

func testRound() *round {
	id := strings.Repeat("0b6e455ae5fe1234", 4)
	return &round{Time: time.Unix(1700000000, 0), Took: 12 * time.Millisecond, Rows: []row{
		{Shim: scan.Shim{Namespace: "moby", ID: "a", PID: 1, Build: scan.Build{Ours: true}}, Result: judge.Result{Verdict: judge.Healthy}},
		{Shim: scan.Shim{Namespace: "moby", ID: id, PID: 3776, Zombies: make([]scan.Process, 142)},
			Result: judge.Result{Verdict: judge.Wedged, Reason: "ReaperDeadlock", Confirmed: true, Since: time.Unix(1699999000, 0)}},
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
