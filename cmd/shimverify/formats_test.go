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
		{Shim: "/a", Check: check, Result: result(harness.Pass), Known: harness.Pass},
		{Shim: "/a", Check: other, Result: result(harness.Fail, "<script>\x01 not \xff good"), Known: harness.Fail},
		{Shim: "/b", Check: check, Result: result(harness.Fail, "no"), Known: harness.Pass},
		{Shim: "/b", Check: other, Result: result(harness.Broken, "no runc")},
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

// TestJUnitFollowsTheExitStatus: with --expect a bug that shows as known was a failure in
// the file of a run that ended with 0, and one that did not show was none in that of a run
// that ended with 1.
func TestJUnitFollowsTheExitStatus(t *testing.T) {
	check := catalogue.All()[0]
	of := func(v, known harness.Verdict) outcome {
		return outcome{Shim: "/a", Check: check, Result: harness.Result{Verdict: v, Messages: []string{"why"}}, Known: known}
	}
	for _, by := range []rule{byVerdict, asKnown, noWorse} {
		for _, o := range []outcome{
			of(harness.Pass, harness.Pass), of(harness.Fail, harness.Fail), of(harness.Pass, harness.Fail),
			of(harness.Fail, harness.Pass), of(harness.Fail, ""), of(harness.Broken, harness.Pass),
		} {
			suite := junitOf(t, []outcome{o}, by).Suites[0]
			err := judge([]outcome{o}, by)
			if red := suite.Failures + suite.Errors; (red > 0) != (err != nil) || (suite.Failures > 0) != errors.Is(err, errFailed) {
				t.Errorf("rule %d, %s where %q is known: %v, but %d failures and %d errors in the file", by, o.Verdict, o.Known, err, suite.Failures, suite.Errors)
			}
			if c := suite.Cases[0]; o.Verdict == harness.Fail && !strings.Contains(c.Output, "why") {
				t.Errorf("rule %d: the message of a failure is in no output: %+v", by, c)
			}
		}
	}
}

func junitOf(t *testing.T, out []outcome, by rule) (suites junitSuites) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	if err := writeJUnit(path, out, by); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(data, &suites); err != nil {
		t.Fatal(err)
	}
	return suites
}

// TestBothRunsAreReported: a race that failed and then passed was in no report.
func TestBothRunsAreReported(t *testing.T) {
	dir := t.TempDir()
	f := runFlags{jsonFile: filepath.Join(dir, "j"), junitFile: filepath.Join(dir, "x"), htmlFile: filepath.Join(dir, "h"), markdownFile: filepath.Join(dir, "m")}
	out := sample()[:1]
	out[0].First = &harness.Result{Verdict: harness.Fail, Messages: []string{"an exit was lost"}}
	if err := writeReports(f, out); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{f.jsonFile: "an exit was lost", f.junitFile: "an exit was lost", f.htmlFile: "an exit was lost", f.markdownFile: "(fail, then pass)"} {
		if data, err := os.ReadFile(path); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("no %q in %s, %v", want, data, err)
		}
	}
}

// TestNoOldReport: a run that ended before its first check left the report of the one
// before in its place.
func TestNoOldReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(path, []byte("all green"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writable(path); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || len(data) > 0 {
		t.Errorf("%q, %v", data, err)
	}
	if err := errors.Join(os.Remove(path), writable(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made for a run that has not begun: %v", err)
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
	again(jobs, out, asKnown, func(j job) outcome {
		ran = append(ran, j.name)
		return outcome{Result: harness.Result{Verdict: harness.Pass}, Known: harness.Pass}
	})
	if !slices.Equal(ran, []string{"v1.2.6-a"}) || out[0].Verdict != harness.Fail || out[1].Verdict != harness.Pass || out[2].Verdict != harness.Fail ||
		out[0].First != nil || out[1].First == nil || out[1].First.Verdict != harness.Fail {
		t.Errorf("ran %q, got %+v", ran, out)
	}
}

func TestJudge(t *testing.T) {
	all := sample()
	of := func(v, known harness.Verdict, either bool) []outcome {
		return []outcome{{Result: harness.Result{Verdict: v}, Known: known, Either: either}}
	}
	repaired := of(harness.Pass, harness.Fail, false)
	for _, row := range []struct {
		name string
		out  []outcome
		by   rule
		want error
	}{
		{"all pass", all[:1], byVerdict, nil},
		{"one fails", all[:2], byVerdict, errFailed},
		{"one fails as known", all[:2], asKnown, nil},
		{"one fails that is known to pass", all[2:3], asKnown, errFailed},
		{"one passes that is known to fail", repaired, asKnown, errFailed},
		{"one passes of which nothing is known", of(harness.Pass, "", false), asKnown, nil},
		{"one fails of which nothing is known", of(harness.Fail, "", false), asKnown, errFailed},
		{"one fails that may do either", of(harness.Fail, "", true), asKnown, nil},
		{"one passes that may do either", of(harness.Pass, "", true), asKnown, nil},
		{"one passes that is known to fail, of a shim that repairs", repaired, noWorse, nil},
		{"of that, one fails as known", all[:2], noWorse, nil},
		{"of that, one fails that is known to pass", all[2:3], noWorse, errFailed},
		{"of that, one fails that may do either", of(harness.Fail, "", true), noWorse, errFailed},
		{"of that, one fails of which nothing is known", of(harness.Fail, "", false), noWorse, errFailed},
		{"of that, one passes that may do either", of(harness.Pass, "", true), noWorse, nil},
	} {
		if err := judge(row.out, row.by); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
	for _, by := range []rule{byVerdict, asKnown, noWorse} {
		if err := judge(all[3:], by); err == nil || errors.Is(err, errFailed) {
			t.Errorf("one could not be run, rule %d: %v", by, err)
		}
	}
}

// TestSummaryCountsWhatIsNotKnown: "0 other than the release is known for" hid failures
// of which nothing is known.
func TestSummaryCountsWhatIsNotKnown(t *testing.T) {
	var b strings.Builder
	summary(&b, sample()[2:])
	if want := "/b: 0 pass, 1 fail, 1 could not be run; 1 other than the release is known for, 1 whose verdict is not known\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
