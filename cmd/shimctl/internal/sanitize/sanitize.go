// SPDX-License-Identifier: Apache-2.0

// Package sanitize makes text of unknown origin harmless for a terminal. A
// process may give itself any name, arguments and stack text; with an escape
// sequence in one it could rewrite what the operator sees, or worse.
package sanitize

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"
)

// Text replaces all control characters but newline and tab, and bytes that are not UTF-8
// (a terminal of eight bits takes 0x9b for an escape), with a question mark. Text without
// any is returned as it is.
func Text(b []byte) []byte {
	if !utf8.Valid(b) {
		b = bytes.ToValidUTF8(b, []byte("?"))
	}
	if !bytes.ContainsFunc(b, control) {
		return b
	}
	return bytes.Map(func(r rune) rune {
		if control(r) {
			return '?'
		}
		return r
	}, b)
}

// Line is Text for what must stay on its line and in its column.
func Line(s string) string {
	return strings.NewReplacer("\n", "?", "\t", "?").Replace(string(Text([]byte(s))))
}

// control reports whether r is of C0, DEL or C1, which terminals act on.
func control(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0
}

// Writer writes its text plain.
type Writer struct{ W io.Writer }

func (p Writer) Write(b []byte) (int, error) {
	if _, err := p.W.Write(Text(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}
