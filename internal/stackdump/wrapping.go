// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"strconv"
	"strings"
)

// The marks that upstream's dumpStacks puts around a dump, since v1.0.0.
const (
	BeginMark = "=== BEGIN goroutine stack dump ==="
	EndMark   = "=== END goroutine stack dump ==="
)

const noEnd = "the end mark is missing: the text was cut short (strace cuts at -s)"

// unwrap finds the dump in text and returns its goroutines' text with real
// newlines.
func unwrap(text string) (*Dump, string) {
	if strings.Contains(text, BeginMark) {
		return marked(text)
	}
	return unmarked(text)
}

// marked takes the last complete record between the marks, or the last one.
func marked(text string) (*Dump, string) {
	start := strings.LastIndex(text, BeginMark)
	if !strings.Contains(text[start:], EndMark) {
		if end := strings.LastIndex(text[:start], EndMark); end >= 0 {
			if s := strings.LastIndex(text[:end], BeginMark); s >= 0 {
				start, text = s, text[:end+len(EndMark)+tail(text[end+len(EndMark):])]
			}
		}
	}
	line := strings.LastIndexByte(text[:start], '\n') + 1
	lead := text[line:start]
	text = text[start+len(BeginMark):]

	d := &Dump{Form: FormRaw, Complete: true, Header: map[string]string{}}
	body, after, ok := strings.Cut(text, EndMark)
	if !ok {
		d.Complete, d.Why = false, noEnd
	}
	// A record quoted n times has its newlines as 2^(n-1) backslashes and an n.
	for range 3 {
		if !strings.HasPrefix(body, `\`) {
			break
		}
		d.Form = FormQuoted
		if !ok {
			body = untilQuote(body)
		}
		body, after = unescape(body), unescape(after)
	}
	fields(after, d.Header)
	if d.Form == FormRaw {
		body = stripLead(body, lead)
	}
	return d, body
}

// tail is the length of the rest of the line.
func tail(s string) int {
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		return n
	}
	return len(s)
}

// untilQuote cuts an unfinished quoted text where its line or string ends.
func untilQuote(s string) string {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"', '\n':
			return s[:i]
		}
	}
	return s
}

// unescape undoes one level of the escapes that Go's %q and strace print.
// What it does not know it leaves as it is.
func unescape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case '"', '\\', '\'':
			b.WriteByte(c)
		case 'x':
			if i+2 < len(s) {
				if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
					b.WriteByte(byte(v))
					i += 2
					continue
				}
			}
			b.WriteString(`\x`)
		case '0', '1', '2', '3':
			n := 1
			for n < 3 && i+n < len(s) && s[i+n] >= '0' && s[i+n] <= '7' {
				n++
			}
			v, _ := strconv.ParseUint(s[i:i+n], 8, 16)
			b.WriteByte(byte(v))
			i += n - 1
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String()
}

// fields reads the logrus fields after the message: key=value, key="value".
func fields(s string, into map[string]string) {
	line, _, _ := strings.Cut(strings.TrimPrefix(s, `"`), "\n")
	for _, word := range strings.Fields(line) {
		key, value, ok := strings.Cut(word, "=")
		if ok && key != "" && len(into) < 32 {
			into[key] = strings.Trim(value, `"\`)
		}
	}
}

// stripLead removes what a log collector put before each line of a raw record,
// such as "Jun 23 16:35:07 host dockerd[12]: ": everything up to the process's
// name, which lead, what stands before the record, tells.
func stripLead(body, lead string) string {
	unit := strings.LastIndex(lead, "]: ")
	if unit < 0 {
		return body
	}
	name := lead[:unit]
	name = name[strings.LastIndexByte(name, ' ')+1:] + "]: " // dockerd[12]:
	if !strings.Contains(body, "\n") || !strings.Contains(body, name) {
		return body
	}
	var b strings.Builder
	for line := range strings.Lines(body) {
		if at := strings.Index(line, name); at >= 0 {
			line = line[at+len(name):]
		}
		b.WriteString(line)
	}
	return b.String()
}

// unmarked reads this project's files, crashes and bare stacks.
func unmarked(text string) (*Dump, string) {
	d := &Dump{Form: FormBare, Header: map[string]string{}, Why: "nothing marks the end of this text"}
	start := strings.Index(text, "goroutine ")
	if start < 0 {
		return d, ""
	}
	head, body := text[:start], text[start:]
	if strings.Contains(head, "SIGQUIT: quit") || strings.HasPrefix(head, "panic: ") ||
		strings.Contains(head, "\npanic: ") || strings.Contains(head, "fatal error: ") {
		d.Form = FormCrash
		// The runtime ends a SIGQUIT dump with the registers of the thread that took it.
		if at := strings.LastIndex(body, "\nrip "); at >= 0 || strings.Contains(body, "\npc  ") {
			d.Complete, d.Why = true, ""
		} else {
			d.Why = "the registers that end a SIGQUIT dump are missing"
		}
		return d, body
	}
	if ownHeader(head, d.Header) {
		d.Form = FormFile
		text = strings.TrimRight(text, "\n")
		switch last := text[strings.LastIndexByte(text, '\n')+1:]; {
		case last == FileEnd:
			d.Complete, d.Why = true, ""
		case strings.HasPrefix(last, cutEnd):
			d.Why = "the shim " + last[len("# "):]
		default:
			d.Why = "the last line is not " + strconv.Quote(FileEnd)
		}
	}
	return d, body
}

// ownHeader reads "key: value" lines that an empty line ends.
func ownHeader(head string, into map[string]string) bool {
	block, ok := strings.CutSuffix(head, "\n\n")
	if !ok {
		return false
	}
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "# "))
		key, value, ok := strings.Cut(line, ":")
		if !ok || key == "" || strings.Contains(key, " ") || len(into) == 64 {
			continue
		}
		into[key] = strings.TrimSpace(value)
	}
	return len(into) > 0
}
