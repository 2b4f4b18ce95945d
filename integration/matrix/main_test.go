// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain makes a child of a pair, which options.run starts as itself, of this program.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-pair") {
		main()
	}
	os.Exit(m.Run())
}

// What passed once must not stand where the same cell cannot even begin now.
func TestPairThatDoesNotStartFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	p := pairs()[0]
	old := record{}
	for _, name := range []string{"run", "exec", census} {
		old.put(result{Pair: p.String(), Scenario: name, Verdict: passed})
	}
	if err := old.write(file); err != nil {
		t.Fatal(err)
	}
	shim := filepath.Join(t.TempDir(), "shim")
	if err := os.WriteFile(shim, []byte("#!/bin/sh\nprintf 'containerd-shim:\\n  Version:  1\\n  Revision: abc\\n'"), 0o700); err != nil {
		t.Fatal(err)
	}
	o := options{shim: shim, programs: t.TempDir(), record: file, only: p.String() + " run"}
	o.only = strings.ReplaceAll(o.only, " ", "+")
	if status, err := o.run(t.Context()); status != 1 || err != nil {
		t.Errorf("got status %d, %v, want 1", status, err)
	}
	got, err := readRecord(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]verdict{"run": failed, census: failed, "exec": passed} {
		if r := got[p.String()][name]; r.Verdict != want || want == failed && !strings.Contains(r.Reason, "overlay") {
			t.Errorf("%s: got %+v, want %s", name, r, want)
		} else if (r.Revision == "abc") != (want == failed) {
			t.Errorf("%s: got revision %q", name, r.Revision)
		}
	}
}

// docs/support.md says what this project's shim does.
func TestOurRecordIsOfOurShim(t *testing.T) {
	o := options{shim: "/usr/bin/containerd-shim", record: ourRecord, only: "nothing"}
	if _, err := o.run(t.Context()); err == nil || !strings.Contains(err.Error(), "-record") {
		t.Errorf("got %v, want a refusal", err)
	}
	o.record = filepath.Join(t.TempDir(), "record.json")
	if _, err := o.run(t.Context()); err == nil || strings.Contains(err.Error(), "-record") {
		t.Errorf("got %v: with a record of its own any shim may be run", err)
	}
}
