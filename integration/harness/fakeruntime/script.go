// SPDX-License-Identifier: Apache-2.0

// Package fakeruntime is an OCI runtime that does what real runc cannot be made
// to do on demand: be slow, hang, fail at any verb, write too much, keep a
// pipe open, leave children behind, lie about the pid. What it is not told to
// do differently it hands to real runc with the same arguments.
//
// The shim starts it as CreateTaskRequest.runtime; the directory of argv[0]
// holds its Script (script.json, read anew at each call), the log of its
// calls (calls.jsonl), its gates, and the pids of what it left behind.
//
// It is not a shell script because a shell waits for its children and so
// takes the exits away from the shim under test.
package fakeruntime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Name is the name under which the helper is the fake runtime. By this name shimctl
// recognises that a shim's child is a runtime at work.
const Name = "runc"

// NoPid is in the error of a Process that could not get the pid that it has to get.
const NoPid = "could not be had"

// Files in the directory of argv[0].
const (
	scriptFile  = "script.json"
	callsFile   = "calls.jsonl"
	spawnedFile = "spawned"
)

// Script is what the fake runtime does instead of, before and after real runc.
type Script struct {
	Runc  string // the real runtime; "": none, see bare
	Rules []Rule // the first rule that matches a call applies
}

// Rule selects calls by verb and, where set, by a piece of the arguments.
type Rule struct {
	Verb  string
	Match string // a substring of one of the arguments; "" matches every call
	Times int    // how many calls it applies to; 0: all
	Steps []Step
}

// Op is what one Step does.
type Op string

// The operations. Those that start processes record their pids in spawnedFile.
const (
	Gate    Op = "gate"    // announce Name.arrived, then wait for the FIFO Name to be opened for writing
	Stop    Op = "stop"    // announce Name.arrived, then stop with SIGSTOP until somebody sends SIGCONT
	Stdout  Op = "stdout"  // write N bytes to stdout
	Stderr  Op = "stderr"  // write N bytes to stderr
	Log     Op = "log"     // append Text as a line of level error to the --log file
	RawLog  Op = "rawlog"  // append Text as it is to the --log file
	Exit    Op = "exit"    // end with status N, Text on stderr
	Real    Op = "real"    // run the real runtime with the same arguments and wait; a failure ends the script
	Hold    Op = "hold"    // leave a child with the inherited stdin, stdout, stderr open until killed
	Spawn   Op = "spawn"   // leave N children (stdio on /dev/null) that do the steps in Text, or sleep until killed
	Process Op = "process" // start a process that waits for the FIFO Name and exits with N; its pid is the container's or exec's
	Sibling Op = "sibling" // the same, but a child of the shim's from its start on, as real runc's are
	PidFile Op = "pidfile" // replace the pid file's content by Text; remove it when Text is empty
	NextPid Op = "nextpid" // make the kernel give the next process the pid N (ns_last_pid)
	Pids    Op = "pids"    // print a JSON list of N pids
	Byte    Op = "byte"    // write the byte N to stderr
	Without Op = "without" // drop the argument Text from what real runc is given
	Print   Op = "print"   // write Text to stdout
)

// Step is one operation with its operands.
type Step struct {
	Op   Op
	N    int    `json:",omitempty"`
	Name string `json:",omitempty"`
	Text string `json:",omitempty"`
}

// Call is one line of callsFile: how the shim started the runtime.
type Call struct {
	Verb string
	Pid  int
	Args []string // without argv[0]
	Env  []string
	Fds  []string // inherited descriptors above stderr
}

// write stores s for the fake runtime in dir; running calls keep the old one.
func (s Script) write(dir string) error {
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("encode script: %w", err)
	}
	tmp := filepath.Join(dir, "."+scriptFile)
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("write script: %w", err)
	}
	return os.Rename(tmp, filepath.Join(dir, scriptFile))
}

func read(dir string) (Script, error) {
	var s Script
	data, err := os.ReadFile(filepath.Join(dir, scriptFile))
	if err != nil {
		return s, fmt.Errorf("read script: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("decode script: %w", err)
	}
	return s, nil
}
