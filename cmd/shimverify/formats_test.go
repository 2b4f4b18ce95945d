// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
)

func sample() []outcome {
	check := catalogue.All()[0]
	other := catalogue.All()[1]
	result := func(v harness.Verdict, messages ...string) harness.Result {
		return harness.Result{Verdict: v, Messages: messages, Duration: time.Second, Samples: []time.Duration{time.Second, 2 * time.Second}}
	}
	return []outcome{
		{"/a", check, result(harness.Pass), harness.Pass},
		{"/a", other, result(harness.Fail, "<script>\x01 not \xff good"), harness.Fail},
		{"/b", check, result(harness.Fail, "no"), harness.Pass},
		{"/b", other, result(harness.Broken, "no runc"), ""},
	}
}

func TestReports(t *testing.T) {
	dir := t.TempDir()
	f := runFlags{jsonFile: filepath.Join(dir, "j"), junitFile: filepath.Join(dir, "x"), htmlFile: filepath.Join(dir, "h"), markdownFile: filepath.Join(dir, "m")}
	if err := writeReports(f, sample()); err != nil {
		t.Fatal(err)
	}
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var records []record
	if err := json.Unmarshal(read(f.jsonFile), &records); err != nil || len(records) != 4 {
		t.Errorf("JSON: %d records, %v", len(records), err)
	}
	var suites junitSuites
	if err := xml.Unmarshal(read(f.junitFile), &suites); err != nil {
		t.Fatal(err)
	}
	if len(suites.Suites) != 2 || suites.Suites[1].Failures != 1 || suites.Suites[1].Errors != 1 {
		t.Errorf("JUnit: %+v", suites)
	}
	table := string(read(f.markdownFile))
	for _, want := range []string{"| /a | /b |", "| – | **fail** |", "| **fail** | **broken** |", "1 of 2 | 2 of 2", "every shim of this table (0)"} {
		if !strings.Contains(table, want) {
			t.Errorf("Markdown: no %q in\n%s", want, table)
		}
	}
	html := string(read(f.htmlFile))
	if strings.Contains(html, "<script>") || !strings.Contains(html, "&lt;script&gt;") {
		t.Error("HTML: a message is not escaped")
	}
	if n := strings.Count(html, "<polyline"); n != 4 {
		t.Errorf("HTML: %d lines in the plots, want 4", n)
	}
	for _, outside := range []string{"src=", "href=", "url("} {
		if strings.Contains(html, outside) {
			t.Errorf("HTML: not self-contained: %s", outside)
		}
	}
}

// TestAgain: what a release did otherwise than known counts by its second run; this
// project's shim has none.
func TestAgain(t *testing.T) {
	var jobs []job
	var out []outcome
	for _, release := range []string{"v1.1.2", "v1.2.6", catalogue.Ours} {
		jobs = append(jobs, job{name: release, release: release})
		out = append(out, outcome{Result: harness.Result{Verdict: harness.Fail}, Known: harness.Pass})
	}
	out[0].Known = harness.Fail
	var ran []string
	again(jobs, out, func(j job) outcome {
		ran = append(ran, j.name)
		return outcome{Result: harness.Result{Verdict: harness.Pass}, Known: harness.Pass}
	})
	if !slices.Equal(ran, []string{"v1.2.6-a"}) || out[0].Verdict != harness.Fail || out[1].Verdict != harness.Pass || out[2].Verdict != harness.Fail {
		t.Errorf("ran %q, got %+v", ran, out)
	}
}

func TestJudge(t *testing.T) {
	all := sample()
	repaired := []outcome{{Result: harness.Result{Verdict: harness.Pass}, Known: harness.Fail}}
	for _, row := range []struct {
		name           string
		out            []outcome
		expect, better bool
		want           error
	}{
		{"all pass", all[:1], false, false, nil},
		{"one fails", all[:2], false, false, errFailed},
		{"one fails as known", all[:2], true, false, nil},
		{"one fails that is known to pass", all[2:3], true, false, errFailed},
		{"one passes that is known to fail", repaired, true, false, errFailed},
		{"the same of a shim that repairs", repaired, true, true, nil},
		{"of that, one fails as known", all[:2], true, true, nil},
		{"of that, one fails that is known to pass", all[2:3], true, true, errFailed},
	} {
		if err := judge(row.out, row.expect, row.better); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
	if err := judge(all[3:], false, false); err == nil || errors.Is(err, errFailed) {
		t.Errorf("one could not be run: %v", err)
	}
}
