// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the commands and their flags are, by the command line itself.
func commandLine() (names []string, flags map[string][]string) {
	flags = map[string][]string{}
	for _, v := range underTest().verbs() {
		v.flagSet().VisitAll(func(f *flag.Flag) { flags[v.name] = append(flags[v.name], f.Name) })
	}
	return commands(underTest().verbs()), flags
}

// found is what the first group of the expression matches in text, in order.
func found(text, expression string) (all []string) {
	for _, m := range regexp.MustCompile("(?m)"+expression).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// section is the text from a line that begins so to the next one that matches.
func section(t *testing.T, text, begin, end string) string {
	t.Helper()
	_, text, ok := strings.Cut("\n"+text, "\n"+begin)
	if !ok {
		t.Fatalf("no line begins with %q", begin)
	}
	if at := regexp.MustCompile("(?m)" + end).FindStringIndex(text); at != nil {
		text = text[:at[0]]
	}
	return text
}

// The help, the manual page and the completions list the same commands and
// flags.
func TestAllListsAgree(t *testing.T) {
	names, flags := commandLine()
	same := func(where string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s lists %q, want %q", where, got, want)
		}
	}
	_, help, _ := capture(t, "help")
	same("help", found(help, `^  (\w+) +[a-z]`), names)
	_, page, _ := capture(t, "manual")
	same("manual", append(found(page, `^\.SS shimctl (\w+) `), found(page, `^\.B shimctl (\w+)`)...), names)
	_, fishScript, _ := capture(t, "completion", "fish")
	same("fish", found(fishScript, `__fish_use_subcommand -f -a (\w+) `), names)
	for _, v := range underTest().verbs() {
		_, help, _ := capture(t, v.name, "-h")
		same("help of "+v.name, found(help, `^  -([\w-]+)`), flags[v.name])
		part := strings.ReplaceAll(section(t, page, ".SS shimctl "+v.name+" ", `^\.S[SH] `), `\-`, "-")
		same("manual of "+v.name, found(part, `^\.B -([\w-]+)`), flags[v.name])
		same("fish, of "+v.name, found(fishScript, `_from `+v.name+`' -[os] ([\w-]+) `), flags[v.name])
		if !strings.Contains(section(t, page, ".SS shimctl "+v.name+" ", `^\.S[SH] `), "examples:") {
			t.Errorf("manual of %s: no examples", v.name)
		}
	}
}

// bash and zsh complete by running code: it is run.
func TestCompletionInTheShell(t *testing.T) {
	names, flags := commandLine()
	shells := map[string][2]string{ // what asks, and what is asked with a word and what comes before it
		"bash": {"bash", `COMP_WORDS=(shimctl %BEFORE "%WORD") COMP_CWORD=%N; _shimctl; printf '%s\n' "${COMPREPLY[@]}"` + "\n"},
		"zsh":  {"zsh", `words=(shimctl %BEFORE "%WORD") CURRENT=$((%N + 1)) PREFIX="%WORD"; _shimctl` + "\n"},
	}
	for shell, how := range shells {
		status, script, e := capture(t, "completion", shell)
		if status != exitOK {
			t.Fatalf("%s: status %d, %s", shell, status, e)
		}
		if shell == "zsh" { // outside of its line editor: compadd prints
			script = "compdef() { }; _files() { }; compadd() { shift; print -l -- $@ }\n" + script
		}
		ask := func(before, word, n string) []string {
			t.Helper()
			line := strings.NewReplacer("%BEFORE", before, "%WORD", word, "%N", n).Replace(how[1])
			args := []string{"-c", script + line}
			if shell == "zsh" {
				args = append([]string{"-f"}, args...)
			}
			cmd := exec.Command(how[0], args...)
			cmd.Dir = t.TempDir()
			got, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", shell, err, got)
			}
			return strings.Fields(string(got))
		}
		if got := ask("", "", "1"); !slices.Equal(got, names) {
			t.Errorf("%s: got %q, want %q", shell, got, names)
		}
		for _, v := range underTest().verbs() {
			var want []string
			for _, f := range flags[v.name] {
				want = append(want, "-"+f)
			}
			if got := ask(v.name, "-", "2"); !slices.Equal(got, want) {
				t.Errorf("%s, %s: got %q, want %q", shell, v.name, got, want)
			}
		}
	}
	if status, _, e := capture(t, "completion", "csh"); status != exitUsage || !strings.Contains(e, "bash, zsh and fish") {
		t.Errorf("csh: status %d, %q", status, e)
	}
}

// groff has no complaint about the page.
func TestManualIsCleanTroff(t *testing.T) {
	_, page, _ := capture(t, "manual")
	cmd := exec.Command("groff", "-man", "-ww", "-z", "-Tutf8")
	cmd.Stdin = strings.NewReader(page)
	if got, err := cmd.CombinedOutput(); err != nil || len(got) > 0 {
		t.Errorf("%v: %s", err, got)
	}
}

func TestVersion(t *testing.T) {
	oldVersion, oldRevision := version, revision
	defer func() { version, revision = oldVersion, oldRevision }()
	version, revision = "1.2.3", "abc"
	for _, arg := range []string{"version", "-v", "-version", "--version"} {
		if status, o, _ := capture(t, arg); status != exitOK || o != "shimctl 1.2.3 abc\n" {
			t.Errorf("%s: status %d, %q", arg, status, o)
		}
	}
}

// The build gives both binaries the same version.
func TestVersionIsTheShims(t *testing.T) {
	dir := t.TempDir()
	if got, err := exec.Command("../../packaging/build", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	ours, err := exec.Command(filepath.Join(dir, "shimctl"), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := exec.Command(filepath.Join(dir, "containerd-shim"), "-version").Output()
	if err != nil {
		t.Fatal(err)
	}
	f := bytes.Fields(ours) // shimctl VERSION REVISION
	if len(f) != 3 || !bytes.Contains(theirs, append([]byte("Version:  "), f[1]...)) || !bytes.Contains(theirs, append([]byte("Revision: "), f[2]...)) {
		t.Errorf("got %q and %q", ours, theirs)
	}
}

// The default of -binary goes with the place that shimctl is installed in.
func TestDefaultBinary(t *testing.T) {
	prefix := t.TempDir()
	self := func() (string, error) { return filepath.Join(prefix, "bin", "shimctl"), nil }
	if got := defaultBinary(self); got != "/usr/lib/containerd-shim/containerd-shim" {
		t.Errorf("without one below the prefix: %s", got)
	}
	want := filepath.Join(prefix, "lib/containerd-shim/containerd-shim")
	if err := os.MkdirAll(filepath.Dir(want), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := defaultBinary(self); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
