// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// ErrNoDump is returned for a text in which there is no goroutine at all.
var ErrNoDump = errors.New("no goroutine dump in this text")

// Parse reads the last complete goroutine dump in text, or the last one if none
// is complete. A dump that is cut short is returned with what there is of it and
// with Complete false.
func Parse(text []byte) (*Dump, error) {
	d, body := unwrap(string(text))
	d.Goroutines = goroutines(body)
	if len(d.Goroutines) == 0 {
		return nil, ErrNoDump
	}
	return d, nil
}

// goroutines reads the goroutines of a runtime.Stack text. Lines that belong to
// none of them are ignored, such as log lines in between.
func goroutines(body string) []Goroutine {
	var (
		all     []Goroutine
		current *Goroutine
		created bool // the next file line belongs to "created by"
	)
	for line := range strings.Lines(body) {
		line = strings.TrimRight(line, "\r\n")
		if g, ok := header(line); ok {
			all = append(all, g)
			current, created = &all[len(all)-1], false
			continue
		}
		if current == nil {
			continue
		}
		if strings.TrimSpace(line) == "" {
			current = nil
			continue
		}
		if by, ok := strings.CutPrefix(line, "created by "); ok {
			by, in, _ := strings.Cut(by, " in goroutine ")
			current.CreatedBy, created = by, true
			current.CreatedIn, _ = strconv.ParseUint(in, 10, 64) // 0 when it is not there
			continue
		}
		if file, no, offset, ok := location(line); ok {
			if n := len(current.Frames); n > 0 && !created && current.Frames[n-1].File == "" {
				f := &current.Frames[n-1]
				f.File, f.Line, f.Offset = file, no, offset
			}
			continue
		}
		if f, ok := call(line); ok && !created {
			current.Frames = append(current.Frames, f)
		}
	}
	return all
}

// header reads "goroutine 7 [select, 92427 minutes, locked to thread]:", with
// labels as Go 1.26 prints them inside the brackets, or after them.
func header(line string) (Goroutine, bool) {
	rest, ok := strings.CutPrefix(line, "goroutine ")
	if !ok {
		return Goroutine{}, false
	}
	id, rest, ok := strings.Cut(rest, " ")
	if !ok {
		return Goroutine{}, false
	}
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return Goroutine{}, false
	}
	open := strings.IndexByte(rest, '[') // GOTRACEBACK=system puts gp= m= mp= before it
	if open < 0 {
		return Goroutine{}, false
	}
	rest = rest[open+1:]
	g := Goroutine{ID: n}
	if start := strings.Index(rest, "labels:"); start >= 0 {
		var tail string
		g.Labels, tail = labels(rest[start+len("labels:"):])
		rest = strings.TrimRight(rest[:start], " ") + tail
	}
	end := strings.LastIndex(rest, "]")
	if end < 0 {
		return Goroutine{}, false
	}
	for i, part := range strings.Split(rest[:end], ", ") {
		part = strings.TrimSpace(part)
		if i == 0 {
			g.State = strings.TrimSuffix(strings.TrimSuffix(part, " (scan)"), " (leaked)")
			continue
		}
		if m, ok := strings.CutSuffix(part, " minutes"); ok {
			if v, err := strconv.ParseInt(m, 10, 32); err == nil && v > 0 {
				g.Since = time.Duration(v) * time.Minute
			}
		}
	}
	return g, g.State != ""
}

// labels reads {"k": "v", "k2":"v2"} and returns what follows the brace.
func labels(s string) (map[string]string, string) {
	found := map[string]string{}
	s = strings.TrimLeft(s, " {")
	for {
		key, err := strconv.QuotedPrefix(s)
		if err != nil {
			break
		}
		s = strings.TrimLeft(s[len(key):], ": ")
		value, err := strconv.QuotedPrefix(s)
		if err != nil {
			break
		}
		s = strings.TrimLeft(s[len(value):], ", ")
		k, _ := strconv.Unquote(key)
		v, _ := strconv.Unquote(value)
		found[k] = v
	}
	return found, strings.TrimPrefix(s, "}")
}

// call reads "pkg.(*T).Method(0x1, 0x2)". The argument list is the last pair of
// parentheses that closes the line; a receiver's come before it.
func call(line string) (Frame, bool) {
	line = strings.TrimSpace(line)
	if !strings.HasSuffix(line, ")") {
		return Frame{}, false
	}
	depth := 0
	for i := len(line) - 1; i >= 0; i-- {
		switch line[i] {
		case ')':
			depth++
		case '(':
			depth--
		}
		if depth != 0 {
			continue
		}
		if name := line[:i]; name != "" && !strings.ContainsAny(name, " \t\"") {
			return Frame{Func: name, Args: line[i+1 : len(line)-1]}, true
		}
		return Frame{}, false
	}
	return Frame{}, false
}

// location reads "\t/path/file.go:44 +0x168", with or without the tab.
func location(line string) (file string, no int, offset uint64, ok bool) {
	line = strings.TrimSpace(line)
	at := strings.LastIndex(line, ".go:")
	if at < 0 {
		if at = strings.LastIndex(line, ".s:"); at < 0 {
			return "", 0, 0, false
		}
	}
	colon := at + strings.IndexByte(line[at:], ':')
	digits, rest, _ := strings.Cut(line[colon+1:], " ")
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 0 {
		return "", 0, 0, false
	}
	hex, _, _ := strings.Cut(strings.TrimPrefix(rest, "+0x"), " ")
	offset, _ = strconv.ParseUint(hex, 16, 64) // 0 when it is not there
	return line[:colon], int(n), offset, true
}

func arg(args string, i int) string {
	for ; i > 0; i-- {
		_, rest, ok := strings.Cut(args, ", ")
		if !ok {
			return ""
		}
		args = rest
	}
	first, _, _ := strings.Cut(args, ",")
	return strings.TrimRight(strings.Trim(first, " {}"), "?")
}
