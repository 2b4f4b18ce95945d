// SPDX-License-Identifier: Apache-2.0

package catalogue_test

import (
	"os"
	"strings"
	"testing"

	"containerd-shim.v1/integration/catalogue"
)

// TestTable: every check says what it is for, and has a verdict for the known releases.
func TestTable(t *testing.T) {
	ids := map[string]bool{}
	for _, c := range catalogue.All() {
		if ids[c.ID] {
			t.Errorf("two checks have the id %s", c.ID)
		}
		ids[c.ID] = true
		if c.Name == "" || c.Incident == "" || c.Asserts == "" {
			t.Errorf("%s: name, incident or assertion is missing", c.ID)
		}
		if !catalogue.Known(c.ID) {
			t.Errorf("%s: no verdict of any release is known", c.ID)
		}
	}
	for _, n := range catalogue.Notes() {
		if ids[n.ID] || n.Why == "" {
			t.Errorf("note %s: it is a check, or has no reason", n.ID)
		}
	}
}

// TestBugsOfTheDocuments: the documents that are made of the catalogue are up to date.
func TestBugsOfTheDocuments(t *testing.T) {
	for name, want := range map[string]string{"docs/bugs.md": catalogue.Markdown(), "docs/matrix.md": catalogue.Matrix()} {
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != want {
			t.Errorf("%s is not what the catalogue says: make %s", name, name)
		}
	}
}

func TestMatching(t *testing.T) {
	for _, c := range catalogue.Matching("B01") {
		if !strings.HasPrefix(c.ID, "B01") {
			t.Errorf("B01 matches %s", c)
		}
	}
	if n := len(catalogue.Matching("sigterm")); n != 2 {
		t.Errorf("sigterm matches %d checks, want 2", n)
	}
}
