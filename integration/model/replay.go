// SPDX-License-Identifier: Apache-2.0

package model

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed shim.pml
var shimModel []byte

// Event is something that a run of the shim shows.
type Event struct {
	What    What
	Process int // 0 is the container's own, 1 and 2 are execs; 0 for the daemon's
}

// What happens, as shim.pml names it.
type What string

const (
	Started  What = "Started"  // the daemon has its answer to Start, and publishes the start
	Recorded What = "Recorded" // State and Wait tell the exit from now on
	Told     What = "Told"     // one of them has
	Put      What = "Put"      // the exit is put into the outbox
	Taken    What = "Taken"    // the daemon takes it
	Away     What = "Away"     // the daemon goes away
	Back     What = "Back"     // there is one again
)

// Replay has spin look, for each of these runs, whether the model of the shim with
// so many execs has a run that shows the same in the same order, and in which everything
// that must come has come then. dir is an empty directory.
func Replay(ctx context.Context, dir string, execs int, runs [][]Event) (accepted []bool, err error) {
	var load bytes.Buffer
	load.WriteString("inline load() {\n\tif\n")
	for i, events := range runs {
		fmt.Fprintf(&load, "\t:: which = %d", i)
		for _, e := range events {
			fmt.Fprintf(&load, "; shown!%s,%d", e.What, e.Process)
		}
		load.WriteString("\n")
	}
	load.WriteString("\tfi\n}\n")
	if err := os.WriteFile(filepath.Join(dir, "runs.pml"), load.Bytes(), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "shim.pml"), shimModel, 0o600); err != nil {
		return nil, err
	}
	report := ""
	for _, args := range [][]string{
		{"spin", "-DREPLAY", "-DFAILS", fmt.Sprintf("-DEXECS=%d", execs), "-a", "shim.pml"},
		{"gcc", "-O0", "-w", "-DSAFETY", "-o", "pan", "pan.c"},
		{"./pan", "-A", "-E", "-m100000", "-w20", "-n"},
	} {
		if report, err = runProgram(ctx, dir, args[0], args[1:]...); err != nil {
			return nil, err
		}
	}
	for i := range runs {
		accepted = append(accepted, strings.Contains(report, fmt.Sprintf("accepted %d\n", i)))
	}
	return accepted, nil
}

// runProgram returns what a program has printed. The programs are those that
// "make host/prepare" installs.
func runProgram(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %q: %w\n%s", name, args, err, out)
	}
	return string(out), nil
}
