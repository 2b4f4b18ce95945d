// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// completions are the shells that completion knows.
var completions = map[string]func(io.Writer, []verb){"bash": bash, "zsh": zsh, "fish": fish}

// flagSet is the verb's flags, for listing.
func (v verb) flagSet() *flag.FlagSet {
	set := flag.NewFlagSet(v.name, flag.ContinueOnError)
	v.flags(set)
	return set
}

// commands is the name of every command.
func commands(verbs []verb) (names []string) {
	for _, v := range verbs {
		names = append(names, v.name)
	}
	for _, m := range minor {
		names = append(names, m.name)
	}
	return names
}

// flagNames is "-a -b" of a verb.
func flagNames(v verb) string {
	var names []string
	v.flagSet().VisitAll(func(f *flag.Flag) { names = append(names, "-"+f.Name) })
	return strings.Join(names, " ")
}

// bash completes commands, flags, files, and the pids of shims.
func bash(w io.Writer, verbs []verb) {
	var cases strings.Builder
	for _, v := range verbs {
		fmt.Fprintf(&cases, "    %s) flags=%q ;;\n", v.name, flagNames(v))
	}
	fmt.Fprintf(w, `# bash completion for shimctl; made by: shimctl completion bash
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
`, strings.Join(commands(verbs), " "), cases.String())
}

// zsh does the same.
func zsh(w io.Writer, verbs []verb) {
	var cases strings.Builder
	for _, v := range verbs {
		fmt.Fprintf(&cases, "    %s) flags=(%s) ;;\n", v.name, flagNames(v))
	}
	fmt.Fprintf(w, `#compdef shimctl
# zsh completion for shimctl; made by: shimctl completion zsh
_shimctl() {
  local -a flags
  if (( CURRENT == 2 )); then
    compadd -- %s
    return
  fi
  case $words[2] in
%s  esac
  case $PREFIX in
    -*) compadd -- $flags ;;
    *) compadd -- $(shimctl ps -q 2>/dev/null); _files ;;
  esac
}
compdef _shimctl shimctl
`, strings.Join(commands(verbs), " "), cases.String())
}

// fish does the same, and shows what each is for.
func fish(w io.Writer, verbs []verb) {
	fmt.Fprint(w, "# fish completion for shimctl; made by: shimctl completion fish\n")
	entry := func(name, short string) {
		fmt.Fprintf(w, "complete -c shimctl -n __fish_use_subcommand -f -a %s -d %s\n", name, fishQuote(short))
	}
	for _, v := range verbs {
		entry(v.name, v.short)
	}
	for _, m := range minor {
		entry(m.name, m.short)
	}
	for _, v := range verbs {
		seen := fishQuote("__fish_seen_subcommand_from " + v.name)
		fmt.Fprintf(w, "complete -c shimctl -n %s -a '(shimctl ps -q 2>/dev/null)'\n", seen)
		v.flagSet().VisitAll(func(f *flag.Flag) {
			name, use := flag.UnquoteUsage(f)
			option, value := "-o", ""
			if len(f.Name) == 1 {
				option = "-s"
			}
			if name != "" {
				value = " -r"
			}
			fmt.Fprintf(w, "complete -c shimctl -n %s %s %s%s -d %s\n", seen, option, f.Name, value, fishQuote(use))
		})
	}
}

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
