// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTally(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	for n, result := range []string{Healed, Upgraded, Upgraded} {
		tally, err := OpenTally(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := tally.Add(result); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
	}
	tally, err := OpenTally(dir)
	if err != nil || tally.Counts[Healed] != 1 || tally.Counts[Upgraded] != 2 || len(tally.Counts) != 2 {
		t.Errorf("got %v, %v", tally, err)
	}
	for _, text := range []string{"", "null", "[]", `{"healed":"x"}`} {
		if err := os.WriteFile(filepath.Join(dir, "in-place.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if tally, err := OpenTally(dir); err == nil {
			t.Errorf("%q: got %v, want an error", text, tally)
		}
	}
}
