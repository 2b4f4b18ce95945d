// SPDX-License-Identifier: Apache-2.0

package launch

import "testing"

// TestReportIsNoDump: a patched shim's word of the last dump, which may come after the next
// signal, is not taken for a dump. B39 then counted no goroutines, and passed.
func TestReportIsNoDump(t *testing.T) {
	for text, want := range map[string]bool{
		`level=info msg="goroutine stacks written" file=/run/x`:     false,
		`msg="=== BEGIN goroutine stack dump ===\ngoroutine 1 [sel`: true,
		"goroutine 12 [chan receive, 3 minutes]:\nmain.main()\n":    true,
	} {
		if got := aGoroutine.MatchString(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
