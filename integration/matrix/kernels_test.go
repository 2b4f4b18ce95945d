// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// As integration/kernel/boot prints it.
const printed = `SeaBIOS (version 1.16.2)
guest: Linux 6.12.0-cloud-amd64, cgroup v2 with cpu memory
pass   B20b  two at once                                         12.5s  /bin/containerd-shim
fail   B04   a check                                              3.1s  /bin/containerd-shim
       exit of a: got 0, want 3
       and more
broken B51   another                                              1ms  /bin/containerd-shim
       no freezer
| /bin/containerd-shim | 100 | 0 | 0 | 0.1 s | 0.0 s | 9.0 s | no | yes |
guest: exit status 1
`

func TestGuestsResultsAreRecorded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	status, err := options{record: file}.kernel(strings.NewReader(printed), record{})
	if status != 1 || err != nil {
		t.Errorf("got status %d, %v, want 1: a check has failed", status, err)
	}
	r, err := readRecord(file)
	if err != nil {
		t.Fatal(err)
	}
	got := r["kernel 6.12.0-cloud-amd64"]
	for scenario, want := range map[string]result{
		"boot":  {Verdict: passed, Reason: "cgroup v2 with cpu memory"},
		"B20b":  {Verdict: passed},
		"B04":   {Verdict: failed, Reason: "exit of a: got 0, want 3"},
		"B51":   {Verdict: notRun, Reason: "no freezer"},
		"flood": {Verdict: passed, Reason: "100 execs at once, 0 failed, 0 exits lost"},
	} {
		want.Pair, want.Scenario, want.Took = "kernel 6.12.0-cloud-amd64", scenario, "0s"
		if got[scenario] != want {
			t.Errorf("%s: got %+v, want %+v", scenario, got[scenario], want)
		}
	}
	want := "| 6.12.0-cloud-amd64 | cgroup v2 with cpu memory | 1: B20b | B04 –, B51 · | 0s |\n\n" +
		"- 6.12.0-cloud-amd64, B04: exit of a: got 0, want 3\n"
	if text := r.kernels(); !strings.Contains(text, want) {
		t.Errorf("got %s, want in it %s", text, want)
	}
}

// TestFloodPassesOnlyIfAllIsWell: one whose shim had ended, or had left no dump, was recorded as passed.
func TestFloodPassesOnlyIfAllIsWell(t *testing.T) {
	for row, want := range map[string]verdict{
		"0 | 0 | 0.1 s | 0.0 s | 9.0 s | no | yes |":   passed,
		"1 | 0 | 0.1 s | 0.0 s | 9.0 s | no | yes |":   failed,
		"0 | 1 | 0.1 s | 0.0 s | 9.0 s | no | yes |":   failed,
		"0 | 0 | 0.1 s | 0.0 s | 9.0 s | yes | yes |":  failed,
		"0 | 0 | 0.1 s | 0.0 s | 9.0 s | gone | yes |": failed,
		"0 | 0 | 0.1 s | 0.0 s | 9.0 s | no | no |":    failed,
	} {
		g := guest{kernel: "6.12"}
		if g.read("| /bin/containerd-shim | 100 | "+row, 0); len(g.results) != 1 || g.results[0].Verdict != want {
			t.Errorf("%s: got %+v, want %s", row, g.results, want)
		}
	}
}

// A check that has failed once has failed, also if it passes afterwards.
func TestGuestsFailureStays(t *testing.T) {
	text := "guest: Linux 6.12.0-cloud-amd64, cgroup v2 with cpu memory\n" +
		"fail   B04   a check   3.1s  /bin/containerd-shim\n       why\npass   B04   a check   3.1s  /bin/containerd-shim\nguest: exit status 1\n"
	r := record{}
	status, err := options{record: filepath.Join(t.TempDir(), "record.json")}.kernel(strings.NewReader(text), r)
	if got := r["kernel 6.12.0-cloud-amd64"]["B04"]; status != 1 || err != nil || got.Verdict != failed || got.Reason != "why" {
		t.Errorf("got %+v, status %d, %v", got, status, err)
	}
}

// A command that could not be run, or has failed and said nothing of it, is no success.
func TestGuestWhoseCommandFails(t *testing.T) {
	text := "guest: Linux 6.12.0-cloud-amd64, cgroup v2 with cpu memory\nguest: exit status 127\n"
	if status, err := (options{record: filepath.Join(t.TempDir(), "record.json")}).kernel(strings.NewReader(text), record{}); err == nil {
		t.Errorf("status %d and no error", status)
	}
}

// A guest that hangs is ended by its limit, and has shown nothing of what did not run.
func TestGuestThatDoesNotEndIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	cut, _, _ := strings.Cut(printed, "guest: exit status")
	if _, err := (options{record: file}).kernel(strings.NewReader(cut), record{}); err == nil {
		t.Error("no error")
	}
	if r, err := readRecord(file); err != nil || r["kernel 6.12.0-cloud-amd64"]["B20b"].Verdict != passed {
		t.Errorf("what it did show is not in the record: %v, %v", r, err)
	}
}
