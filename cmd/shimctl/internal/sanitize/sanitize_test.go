// SPDX-License-Identifier: Apache-2.0

package sanitize

import (
	"bytes"
	"testing"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"moby/abc\tpid 7\n":           "moby/abc\tpid 7\n",
		"é and 日":                     "é and 日",
		"\x1b]0;title\x07x\r\x7f\x00": "?]0;title?x???",
		"C1 \u009b31m":                "C1 ?31m",
		"of eight bits \x9b31m":       "of eight bits ?31m",
	} {
		var b bytes.Buffer
		if n, err := (Writer{&b}).Write([]byte(in)); err != nil || n != len(in) {
			t.Errorf("%q: wrote %d, %v", in, n, err)
		}
		if b.String() != want {
			t.Errorf("%q: got %q, want %q", in, b.String(), want)
		}
	}
}

func TestLine(t *testing.T) {
	if got, want := Line("/run/a\nmoby\tb\x1b[2J"), "/run/a?moby?b?[2J"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
