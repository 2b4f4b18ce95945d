// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// WriteTo prints the report for a reader at a terminal.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	r.print(&b)
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (r *Report) print(b *strings.Builder) {
	for _, f := range r.Findings {
		f.print(b)
		b.WriteString("\n")
	}
	if len(r.Findings) == 0 {
		b.WriteString("no known deadlock or stall in this dump\n\n")
	}
	if len(r.Ongoing) > 0 {
		b.WriteString("under way, and ordinary for a moment; a second dump shows whether it lasts:\n\n")
		for _, f := range r.Ongoing {
			f.print(b)
			b.WriteString("\n")
		}
	}
	fmt.Fprintf(b, "%d goroutines", r.Goroutines)
	if len(r.Requests) > 0 {
		fmt.Fprintf(b, "; requests in progress: %s", counts(r.Requests))
	}
	if r.Complete {
		b.WriteString("; the dump is complete\n")
	} else {
		fmt.Fprintf(b, "; THE DUMP IS INCOMPLETE: %s\n", r.Why)
	}
}

func (f *Finding) print(b *strings.Builder) {
	name := f.Reason
	if f.Bug != "" {
		name += " (" + f.Bug + ")"
	}
	fmt.Fprintf(b, "%s: %s: %s\n", strings.ToUpper(string(f.Grade)), name, f.Title)
	fmt.Fprintf(b, "  %s\n", since(f.Since))
	for j, l := range f.Cycle {
		fmt.Fprintf(b, "  goroutine %-10d %-12s waits for %s\n", l.Goroutine, l.Name, l.Waits)
		switch {
		case j < len(f.Cycle)-1:
			fmt.Fprintf(b, "  %22s %s\n", "", l.Next)
		case f.Closed:
			fmt.Fprintf(b, "  %22s %s goroutine %d: the cycle is closed\n", "", l.Next, f.Cycle[0].Goroutine)
		}
	}
	if len(f.Blocked) > 0 {
		fmt.Fprintf(b, "  behind it: %s\n", counts(f.Blocked))
	}
	fmt.Fprintf(b, "  what to do: %s\n", f.Advice)
}

func since(d time.Duration) string {
	if d < time.Minute {
		return "for less than a minute, as far as the dump tells"
	}
	return fmt.Sprintf("for %d minutes", int(d/time.Minute))
}

// counts prints "3 x rpc State, 1 x rpc Kill", the most frequent first.
func counts(m map[string]int) string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(a, b)
	})
	const most = 8
	var parts []string
	for i, name := range names {
		if i == most {
			parts = append(parts, fmt.Sprintf("%d others", len(names)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("%d x %s", m[name], name))
	}
	return strings.Join(parts, ", ")
}
