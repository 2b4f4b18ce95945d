// SPDX-License-Identifier: Apache-2.0

// Shimverify tests any containerd shim binary for the known bugs of shims, on this host
// and with its own runc: a v1 shim, or a v2 shim such as containerd-shim-runc-v2.
//
// Exit status: 0 all pass, 1 a check failed, 2 could not run, 3 a bench went
// well but no stack dump came out.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/guest/helper"
	"containerd-shim.v1/integration/harness/session"
)

// The exit statuses.
const (
	exitPass   = 0
	exitFail   = 1
	exitBroken = 2
	exitNoDump = 3 // of a bench, where all else went well
)

const usage = `usage: shimverify VERB [flags]

  list     the checks and what each asserts: [PATTERN[,PATTERN]]; --markdown, --matrix: as in docs
  run      test one shim
           --shim PATH [--only PATTERN[,PATTERN]] [--runtime runc|crun|PATH] [-n N]
           [-j N] [-v] [--expect|--better] [--release NAME] [--v2]
           [--json FILE] [--junit FILE] [--html FILE] [--markdown FILE]
           --expect: a verdict other than the release's is a failure; one that may be
           either is not. --better: so is a check that fails, unless the release is
           known to fail it
  compare  test two or more shims side by side
           --shim A --vs B [--vs C ...] and the flags of run
  demo     the exec flood: the deadlock on one shim, the same on another, then the first healed
           [--shim PATH] [--vs PATH] [--size N] [--stacks]
  bench    measure one shim under load, as a row of a table
           flood|storm|killall --shim PATH [-n N] [--name NAME] [--limit 1m] [--settle 15s]
  inject   make each system call of the shim fail once, in a container's life each
           --shim PATH [--only PATTERN[,PATTERN]] [--most N] [--twice|--moment|--kill]
           [-j N] [-v] [--markdown FILE]
  version, help

exit status: 0 all pass, 1 a check failed, 2 could not run, 3 a bench without a stack dump
`

// errFailed means that checks were run and some failed.
var errFailed = errors.New("a check failed")

func main() {
	helper.Dispatch()
	verbs := map[string]func([]string) error{
		"list": list, "run": runVerb, "compare": runVerb, "demo": demo, "bench": bench, "inject": injectVerb,
		"version": tell, "-version": tell, "--version": tell, "-v": tell,
		"help": help, "-help": help, "--help": help, "-h": help,
	}
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(exitBroken)
	}
	switch err := verbs[os.Args[1]](os.Args[2:]); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		os.Exit(exitPass)
	case errors.Is(err, errFailed):
		os.Exit(exitFail)
	case errors.Is(err, errNoDump):
		os.Exit(exitNoDump)
	default:
		fmt.Fprintln(os.Stderr, "shimverify:", err)
		os.Exit(exitBroken)
	}
}

// version and revision are set by the linker.
var (
	version  = "unknown"
	revision = "unknown"
)

func tell([]string) error {
	_, err := fmt.Printf("shimverify:\n  Version:  %s\n  Revision: %s\n  Go version: %s\n", version, revision, runtime.Version())
	return err
}

func help([]string) error {
	_, err := fmt.Print(usage)
	return err
}

// setup prepares the host and makes sure that an interrupted run cleans up: a
// signal ends what runs, as a failure would, and no more is begun. A second
// one ends this process at once; the next run removes what that leaves.
func setup(shim, oci string) (harness.Config, error) {
	c := make(chan os.Signal, 2) // a signal that comes early waits in it
	session.Notify(c)            // to the end of this process
	cfg, err := harness.Setup(shim, oci, "/proc/self/exe")
	if err != nil {
		return cfg, err
	}
	go func() {
		<-c
		fmt.Fprintln(os.Stderr, "\nshimverify: interrupted, cleaning up")
		cfg.Interrupt()
		for s := range c {
			if s != syscall.SIGPIPE { // nobody reads the output: each line brings one
				os.Exit(exitBroken)
			}
		}
	}()
	if err := cfg.Probe(); err != nil {
		return cfg, errors.Join(err, cfg.Close())
	}
	return cfg, nil
}
