// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// manual writes the manual page, shimctl(1), from the verbs' own help.
func manual(w io.Writer, verbs []verb) {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH SHIMCTL 1 \"\" \"shimctl %s\" \"\"\n.SH NAME\nshimctl \\- find, explain and repair wedged containerd shims\n", roff(version))
	b.WriteString(".SH SYNOPSIS\n.B shimctl\n.I command\n[flags] [arguments]\n.SH COMMANDS\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, ".SS shimctl %s [flags] %s\n%s.\n.PP\n.nf\n%s\n.fi\n", v.name, roff(v.args), roff(v.short), roff(v.long))
		v.flagSet().VisitAll(func(f *flag.Flag) {
			name, use := flag.UnquoteUsage(f)
			fmt.Fprintf(&b, ".TP\n.B \\-%s %s\n%s", roff(f.Name), roff(name), roff(use))
			if f.DefValue != "" && f.DefValue != "false" {
				fmt.Fprintf(&b, " (default %s)", roff(f.DefValue))
			}
			b.WriteString("\n")
		})
	}
	b.WriteString(".SH OTHER COMMANDS\n")
	for _, m := range minor {
		fmt.Fprintf(&b, ".TP\n.B shimctl %s\n%s\n", roff(strings.TrimSpace(m.name+" "+m.args)), roff(m.short))
	}
	b.WriteString(".SH SEE ALSO\n.BR containerd (8),\n.BR runc (8)\n")
	_, _ = io.WriteString(w, b.String()) // to standard output: the shell sees a broken pipe itself
}

// roff escapes text for troff.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
