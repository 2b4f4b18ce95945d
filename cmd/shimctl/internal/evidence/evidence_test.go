// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Of a shim that is tried again and again the newest evidence is kept, also of two tries in a
// second, and what belongs to others is not touched.
func TestSaveNew(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "moby.a.7.8.20260102T030400Z"), 0o700); err != nil { // of the container a.7
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	for i := range 2 * kept {
		name, err := SaveNew(dir, "moby.a.7", at.Add(time.Duration(i/2)*time.Second), []File{{Name: "f", Data: []byte{byte(i)}}})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(name, "f")); err != nil || len(b) != 1 || b[0] != byte(i) {
			t.Errorf("%s: got %v, %v", name, b, err)
		}
	}
	// The clock has been set back: what was just saved is not the one to go.
	name, err := SaveNew(dir, "moby.a.7", at.Add(-time.Hour), []File{{Name: "f"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); err != nil {
		t.Error(err)
	}
	got, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range []string{"moby.a.7.20260102T020400Z", "moby.a.7.20260102T030403.2Z", "moby.a.7.20260102T030403Z",
		"moby.a.7.20260102T030404.2Z", "moby.a.7.20260102T030404Z", "moby.a.7.8.20260102T030400Z"} {
		want = append(want, filepath.Join(dir, name))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
