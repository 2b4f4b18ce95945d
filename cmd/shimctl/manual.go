// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// manual writes the manual page, shimctl(1), from the verbs' own help.
func manual(w io.Writer) {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH SHIMCTL 1 \"\" \"shimctl %s\" \"\"\n.SH NAME\nshimctl \\- find, explain and repair wedged containerd shims\n", roff(version))
	b.WriteString(".SH SYNOPSIS\n.B shimctl\n.I command\n[flags] [arguments]\n.SH COMMANDS\n")
	for _, v := range verbs() {
		fmt.Fprintf(&b, ".SS shimctl %s [flags] %s\n%s.\n.PP\n.nf\n%s\n.fi\n", v.name, roff(v.args), roff(v.short), roff(v.long))
		set := flag.NewFlagSet(v.name, flag.ContinueOnError)
		v.flags(set)
		set.VisitAll(func(f *flag.Flag) {
			name, use := flag.UnquoteUsage(f)
			fmt.Fprintf(&b, ".TP\n.B \\-%s %s\n%s", roff(f.Name), roff(name), roff(use))
			if f.DefValue != "" && f.DefValue != "false" {
				fmt.Fprintf(&b, " (default %s)", roff(f.DefValue))
			}
			b.WriteString("\n")
		})
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

// completion writes a bash completion: commands, flags, and the ids of shims.
func completion(w io.Writer) {
	var names, cases strings.Builder
	for _, v := range verbs() {
		names.WriteString(v.name + " ")
		set := flag.NewFlagSet(v.name, flag.ContinueOnError)
		v.flags(set)
		var flags strings.Builder
		set.VisitAll(func(f *flag.Flag) { flags.WriteString("-" + f.Name + " ") })
		fmt.Fprintf(&cases, "    %s) flags=%q ;;\n", v.name, strings.TrimSpace(flags.String()))
	}
	fmt.Fprintf(w, `# bash completion for shimctl; made by: shimctl completion
_shimctl() {
  local word=${COMP_WORDS[COMP_CWORD]} flags=
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W %q -- "$word"))
    return
  fi
  case ${COMP_WORDS[1]} in
%s  esac
  case $word in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -W "$(shimctl ps -q 2>/dev/null)" -- "$word")) ;;
  esac
}
complete -o filenames -F _shimctl shimctl
`, strings.TrimSpace(names.String()), cases.String())
}
