// SPDX-License-Identifier: Apache-2.0

// Command matrix runs a shim under the releases of containerd, and with the releases of
// runc and crun, that Debian has shipped. Each pair of daemon and runtime
// runs in a root file system and a mount namespace of its own, with the kernel, the
// cgroups and the process ids of the host.
//
// It prints a line for each scenario, and adds it to a record, from which -document
// makes docs/support.md. Exit status 1 means that something has failed.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness/session"
	"containerd-shim.v1/integration/harness/sweep"
)

// ourRecord is what docs/support.md is made from.
const ourRecord = "integration/matrix/record.json"

// options are those of the command line.
type options struct {
	shim, programs, only, record, pair string
	document, list, missing, kernels   bool
}

func main() {
	var o options
	flag.StringVar(&o.shim, "shim", "bin/containerd-shim", "the shim to test")
	flag.StringVar(&o.programs, "programs", "bin/matrix", "`directory` of daemons and runtimes, as integration/matrix/fetch writes it")
	flag.StringVar(&o.only, "only", "", "only pairs and scenarios that contain one of these comma separated `words`; words with + between them must all be there")
	flag.StringVar(&o.record, "record", ourRecord, "`file` that keeps the newest result of each cell; this one is for this project's shim only")
	flag.BoolVar(&o.document, "document", false, "print docs/support.md, made from the record, and run nothing")
	flag.BoolVar(&o.missing, "missing", false, "run no cell that has a result already")
	flag.BoolVar(&o.kernels, "kernel", false, "read what integration/kernel/boot prints, put it into the record, and run nothing")
	flag.BoolVar(&o.list, "list", false, "list what would be run")
	flag.StringVar(&o.pair, "pair", "", "run this pair in the mount namespace of this process, for matrix itself")
	flag.Parse()
	ctx, stop := session.Context()
	defer stop()
	status, err := o.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		status = 2
	}
	os.Exit(status)
}

func (o options) run(ctx context.Context) (status int, err error) {
	if o.pair != "" {
		return 0, o.child(ctx)
	}
	if !o.document && !o.kernels && !o.list && o.record == ourRecord && catalogue.Release(o.shim) != catalogue.Ours {
		return 0, fmt.Errorf("%s is not this project's shim: its results need a -record of their own", o.shim)
	}
	records, err := readRecord(o.record)
	if err != nil {
		return 0, err
	}
	if o.document {
		if len(records) == 0 {
			return 0, fmt.Errorf("%s: nothing has been run", o.record)
		}
		_, err := os.Stdout.WriteString(document(records))
		return 0, err
	}
	if o.kernels {
		return o.kernel(os.Stdin, records)
	}
	ran, built := false, revision(ctx, o.shim)
	for _, p := range pairs() {
		chosen := o.chosen(p)
		if o.missing {
			chosen = records.missing(p, chosen)
		}
		if len(chosen) == 0 || ctx.Err() != nil {
			continue
		}
		ran = true
		if o.list {
			fmt.Printf("%s: %s\n", p, strings.Join(chosen, " "))
			continue
		}
		results, err := o.parent(ctx, p, chosen)
		if err != nil { // the next pairs have a daemon of their own
			fmt.Fprintf(os.Stderr, "matrix: %s: %v\n", p, err)
			status = 1
			if ctx.Err() == nil { // an interruption is no verdict
				results = append(results, unfinished(p, chosen, results, err)...)
			}
		}
		for _, r := range results {
			if r.Verdict == failed {
				status = 1
			}
			r.Revision = built
			records.put(r)
		}
		if err := records.write(o.record); err != nil {
			return 0, err
		}
	}
	if !ran {
		return 0, fmt.Errorf("no pair and scenario is %q", o.only)
	}
	return status, ctx.Err()
}

// chosen returns the names of the scenarios of a pair that -only selects.
func (o options) chosen(p pair) (names []string) {
	for _, s := range p.scenarios() {
		if o.selects(p.String() + " " + s.name) {
			names = append(names, s.name)
		}
	}
	return names
}

func (o options) selects(cell string) bool {
	if o.only == "" {
		return true
	}
next:
	for _, words := range strings.Split(o.only, ",") {
		for _, word := range strings.Split(words, "+") {
			if !strings.Contains(" "+cell+" ", " "+word+" ") {
				continue next
			}
		}
		return true
	}
	return false
}

var revisionLine = regexp.MustCompile(`(?m)^  Revision: (\S+)`)

// revision returns that of which a shim says that it was built, "" if it does not.
func revision(ctx context.Context, shim string) string {
	out, _ := exec.CommandContext(ctx, shim, "-version").Output() // the pair says what is wrong
	if m := revisionLine.FindSubmatch(out); m != nil {
		return string(m[1])
	}
	return ""
}

// unfinished fails what has no result because the pair's child ended before it. Without
// it a result of an earlier run would stay, and pass for that of this one.
func unfinished(p pair, chosen []string, results []result, err error) (failures []result) {
	for _, name := range append(slices.Clone(chosen), census) {
		if !slices.ContainsFunc(results, func(r result) bool { return r.Scenario == name }) {
			failures = append(failures, judge(p.String(), name, err))
		}
	}
	return failures
}

// parent runs a pair in a child with a mount namespace of its own, and prints its
// results as they come.
func (o options) parent(ctx context.Context, p pair, chosen []string) (results []result, err error) {
	for _, name := range append(slices.Clone(chosen), census) {
		if reason := p.impossible(name); reason != "" {
			r := judge(p.String(), name, fmt.Errorf("%w: %s", errNotRun, reason))
			fmt.Println(r.line(0))
			results = append(results, r)
		}
	}
	chosen = slices.DeleteFunc(chosen, func(name string) bool { return p.impossible(name) != "" })
	if len(chosen) == 0 {
		return results, nil
	}
	if _, statErr := os.Stat(unified); statErr == nil {
		group := bareGroup(os.Getpid())
		if err := os.Mkdir(group, 0o755); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, sweep.RemoveCgroup(group)) }()
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-pair", p.String(), "-shim", o.shim, "-programs", o.programs, "-only", strings.Join(chosen, ","))
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(os.Stderr, &said)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it cleans up
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			fmt.Fprintln(os.Stderr, lines.Text())
			continue
		}
		fmt.Println(r.line(time.Since(begun)))
		begun = time.Now()
		results = append(results, r)
	}
	if err := cmd.Wait(); err != nil {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return results, fmt.Errorf("%w: %s", err, lines[len(lines)-1])
	}
	return results, nil
}

// child runs the chosen scenarios of a pair, and writes their results.
func (o options) child(ctx context.Context) error {
	p, err := find(o.pair)
	if err != nil {
		return err
	}
	programs, err := filepath.Abs(o.programs)
	if err != nil {
		return err
	}
	shim, err := filepath.Abs(o.shim)
	if err != nil {
		return err
	}
	if err := enter(programs, p.files(programs, shim)); err != nil {
		return err
	}
	b, err := newBench(ctx, p)
	if err != nil {
		return err
	}
	chosen := o.chosen(p)
	for _, s := range p.scenarios() {
		if !slices.Contains(chosen, s.name) || ctx.Err() != nil {
			continue
		}
		outcome := b.try(ctx, s)
		if ctx.Err() != nil {
			continue // interrupted: that is no verdict
		}
		if err := judge(o.pair, s.name, outcome).write(os.Stdout); err != nil {
			return err
		}
	}
	return judge(o.pair, census, b.close()).write(os.Stdout)
}
