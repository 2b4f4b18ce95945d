// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The results of one run are all that the next one, on another machine, has of them: the
// document must come of the record as it is in the repository, and of nothing else.
func TestDocumentIsMadeOfTheRecord(t *testing.T) {
	r, err := readRecord("record.json")
	if err != nil {
		t.Fatal(err)
	}
	got := document(r)
	want, err := os.ReadFile("../../docs/support.md")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Error("docs/support.md is not what `make docs/support.md` writes")
	}
}

// A cell that no table has, because a name was changed, would be lost unseen; a line out
// of order would be moved by the next run of any cell.
func TestRecordHasCellsInOrder(t *testing.T) {
	r, err := readRecord("record.json")
	if err != nil {
		t.Fatal(err)
	}
	for pairName, results := range r {
		if strings.HasPrefix(pairName, kernelPrefix) {
			continue // a check may be gone that was run there
		}
		p, err := find(pairName)
		if err != nil {
			t.Error(err)
			continue
		}
		for name := range results {
			known := name == census || slices.ContainsFunc(p.scenarios(), func(s scenario) bool { return s.name == name })
			if !known {
				t.Errorf("%s has no scenario %s", pairName, name)
			}
		}
	}
	again := filepath.Join(t.TempDir(), "record.json")
	if err := r.write(again); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(again)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("record.json")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("record.json is not as `make matrix` writes it")
	}
}

func TestRecordIsWholeWithEveryCell(t *testing.T) {
	r := record{}
	for _, p := range pairs() {
		for _, s := range p.scenarios() {
			r.put(result{Pair: p.String(), Scenario: s.name, Verdict: passed})
		}
		r.put(result{Pair: p.String(), Scenario: census, Verdict: passed})
	}
	if !r.whole() {
		t.Error("a record with every cell is not whole")
	}
	first := pairs()[0]
	delete(r[first.String()], "run")
	if got := r.missing(first, []string{"run", "exec"}); !slices.Equal(got, []string{"run"}) {
		t.Errorf("missing: got %v, want run", got)
	}
	if r.whole() {
		t.Error("a record without a cell is whole")
	}
	r.put(result{Pair: first.String(), Scenario: "run", Verdict: passed})
	delete(r[first.String()], census)
	if got := r.missing(first, []string{"run", "exec"}); !slices.Equal(got, []string{"run", "exec"}) || r.whole() {
		t.Errorf("without a census: missing %v, whole %v", got, r.whole())
	}
}
