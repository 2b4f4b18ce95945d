// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExplainOfPartOfADump: what is missing may be the deadlock, and a script goes by the status.
func TestExplainOfPartOfADump(t *testing.T) {
	b, err := os.ReadFile("../../internal/stackdump/testdata/B01-production.txt")
	if err != nil {
		t.Fatal(err)
	}
	whole := string(b)
	const sep = "\ngoroutine "
	part := strings.Join(strings.SplitN(whole, sep, 3)[:2], sep) // of one goroutine
	for _, c := range []struct {
		text   string
		status int
		says   string
	}{
		{whole, exitSome, "ReaperDeadlock"},
		{part, exitCheck, "not complete"},
	} {
		name := filepath.Join(t.TempDir(), "dump")
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, o, e := capture(t, "explain", name); status != c.status || !strings.Contains(o+e, c.says) {
			t.Errorf("%d bytes: status %d\n%s%s", len(c.text), status, o, e)
		}
	}
}
