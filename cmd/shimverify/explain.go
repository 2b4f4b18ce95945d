// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"containerd-shim.v1/internal/stackdump"
)

// explain prints who waits for whom in the stacks of a hung shim, and the
// calls in which each of the cycle stands.
func explain(w io.Writer, stacks string) {
	d, err := stackdump.Parse([]byte(stacks))
	if err != nil {
		fmt.Fprintf(w, "   (no stacks to read: %v)\n", err)
		return
	}
	report := stackdump.Explain(d)
	var b strings.Builder
	_, _ = report.WriteTo(&b) // a Builder takes everything
	fmt.Fprintln(w, indent(b.String()))
	if len(report.Findings) == 0 {
		return
	}
	for _, link := range report.Findings[0].Cycle {
		for _, g := range d.Goroutines {
			if g.ID == link.Goroutine {
				fmt.Fprintln(w, indent(calls(g)))
			}
		}
	}
}

// calls are a goroutine's functions in the shim and in runc's wrapper, without
// those of the runtime and of the ttrpc server.
func calls(g stackdump.Goroutine) string {
	const most = 6
	var b strings.Builder
	fmt.Fprintf(&b, "goroutine %d [%s]", g.ID, g.State)
	n := 0
	for _, f := range g.Frames {
		if n < most && strings.Contains(f.Func, "containerd/") && !strings.Contains(f.Func, "ttrpc") {
			fmt.Fprintf(&b, "\n    %s", f.Func[strings.LastIndex(f.Func, "/")+1:])
			n++
		}
	}
	return b.String()
}

func indent(s string) string {
	return "   " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n   ")
}
