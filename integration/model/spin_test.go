// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience bounds one step of spin's.
const patience = 10 * time.Minute

// verdict is what spin has found.
type verdict struct {
	states int
	// fault is the first error, as spin words it; empty if there is none.
	fault string
	// where says for each process of the model in which line it stands at the fault.
	where map[string][]string
}

// search is what spin is asked for, in flags for its compiler.
type search []string

var (
	faults   = search{"-DSAFETY"}          // assertions, and ends where somebody still waits
	shortest = search{"-DSAFETY", "-DBFS"} // the same, and the shortest run that gets there
	cycles   = search{"-DNP"}              // runs that never end
)

// thorough is for a model that is worth optimising; for a small one that takes longer than
// it saves.
func thorough(s search) search { return append(slices.Clone(s), "-O1") }

// verify has spin search the whole model, with these switches.
func verify(t *testing.T, s search, file string, switches ...string) verdict {
	t.Helper()
	dir := t.TempDir()
	model, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	var defines []string
	for _, name := range switches {
		defines = append(defines, "-D"+name)
	}
	run(t, dir, "spin", append(defines, "-a", model)...)
	run(t, dir, "gcc", append(append([]string{"-O0"}, s...), "-w", "-o", "pan", "pan.c")...)
	args := []string{"-m100000", "-w22", "-n"}
	if slices.Contains(s, cycles[0]) {
		args = append(args, "-l")
	}
	report := run(t, dir, "./pan", args...)
	if !strings.Contains(report, "errors: ") || strings.Contains(report, "max search depth too small") {
		t.Fatalf("spin has not searched all of it:\n%s", report)
	}
	v := verdict{states: number(t, report, `(?m)^\s*(\d+) states, stored`)}
	if number(t, report, `errors: (\d+)`) == 0 {
		return v
	}
	v.fault = regexp.MustCompile(`(?m)^pan:1: (.*) \(at depth \d+\)`).FindStringSubmatch(report)[1]
	v.where = stands(t, model, run(t, dir, "spin", append(defines, "-t", "-k", filepath.Join(dir, filepath.Base(file)+".trail"), model)...))
	return v
}

// stands reads the end of a run that spin has replayed: each process by name,
// and the text of the line in which it stands.
func stands(t *testing.T, model, replay string) map[string][]string {
	t.Helper()
	where := make(map[string][]string)
	for _, m := range regexp.MustCompile(`proc +\d+ \((\S+):\d+\) (\S+):(\d+) \(state`).FindAllStringSubmatch(replay, -1) {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(model), filepath.Base(m[2])))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(data), "\n")
		n, err := strconv.Atoi(m[3])
		if err != nil || n > len(lines) {
			t.Fatalf("line %s of %s", m[3], m[2])
		}
		where[m[1]] = append(where[m[1]], strings.TrimSpace(lines[n-1]))
	}
	return where
}

func number(t *testing.T, report, pattern string) int {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(report)
	if m == nil {
		t.Fatalf("no %s in spin's report:\n%s", pattern, report)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// run is runProgram; its error ends the test.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := runProgram(ctx, dir, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
