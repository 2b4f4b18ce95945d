// SPDX-License-Identifier: Apache-2.0

package model

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed shim.pml daemon.pml delete.pml exchange.pml replay.pml pids.pml
var sources embed.FS

// Model is one of those that runs of the code are compared with.
type Model struct {
	file     string
	switches []string
}

// Shim is the model of a shim with so many execs, 1 or 2.
func Shim(execs int) Model {
	return Model{"shim.pml", []string{"FAILS", fmt.Sprintf("EXECS=%d", execs)}}
}

// Deletes returns m with what is deleted.
func (m Model) Deletes() Model { return m.with("DELETES") }

// Exchange returns m with one exchange of the program. What was shown must have been seen
// from outside, without Recorded and Put: no program is there all the time.
func (m Model) Exchange() Model { return m.with("EXCHANGE").with("OUTSIDE") }

// Pids is the model of a pid that two processes of a reaper have one after the other, and
// perhaps a third one that is nobody's.
func Pids() Model { return Model{"pids.pml", []string{"STARTS=2"}} }

func (m Model) with(name string) Model {
	return Model{m.file, append(m.switches[:len(m.switches):len(m.switches)], name)}
}

// Event is something that a run shows.
type Event struct {
	What    What
	Process int // 0 is the container's own, 1 and 2 are execs; 0 for the daemon's, and for an exchange. In Pids starts are 0 and 1, and 2 is nobody's
}

// What happens, as the models name it.
type What string

// What happens to a shim.
const (
	Started   What = "Started"   // the daemon has its answer to Start, and publishes the start
	Recorded  What = "Recorded"  // State and Wait tell the exit from now on
	Told      What = "Told"      // one of them has
	Put       What = "Put"       // the exit is put into the outbox
	Taken     What = "Taken"     // the daemon takes it
	Away      What = "Away"      // the daemon goes away
	Back      What = "Back"      // there is one again
	Deleted   What = "Deleted"   // Delete or DeleteProcess is answered
	Exchanged What = "Exchanged" // the program is another one
)

// What happens to the processes that have the pid, in Pids.
const (
	Begun  What = "Begun"  // a ticket is open for a start
	Forked What = "Forked" // the process is there
	Reaped What = "Reaped" // it was
	Dead   What = "Dead"   // a claim has found its exit
	Living What = "Living" // a claim has found it alive
)

// replayTime bounds a Replay. The more execs there are, and the less is shown, the more there is
// to look through.
const replayTime = 5 * time.Minute

// Replay has spin look, for each of these runs, whether m has a run that shows the same in
// the same order, and in which everything that must come has come then. dir is an empty
// directory.
func Replay(ctx context.Context, dir string, m Model, runs [][]Event) (accepted []bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, replayTime)
	defer cancel()
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
	if err := os.CopyFS(dir, sources); err != nil {
		return nil, err
	}
	spin := []string{"spin", "-DREPLAY"}
	for _, name := range m.switches {
		spin = append(spin, "-D"+name)
	}
	report := ""
	for _, args := range [][]string{
		append(spin, "-a", m.file),
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
