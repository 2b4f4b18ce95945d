// SPDX-License-Identifier: Apache-2.0

// Command floodtest starts one containerd-shim with real runc, floods it with
// concurrent execs, and prints one row: what failed, what was lost, how long
// State took, whether the shim hung, whether a stack dump came out.
//
// It accepts any v1 shim: its ttrpc client takes an OK response with or
// without a status field. Every wait is bounded; whatever it started is
// killed and removed before it ends.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes.
const (
	exitSurvived = 0
	exitFault    = 1 // something failed, was lost, or hung
	exitCannot   = 2 // the test itself could not run
	exitNoDump   = 3 // all went well, but no stack dump came out
)

// options are the flags.
type options struct {
	shim, guest, runc, name, stderr, dumps string
	n, storm                               int
	timeout, settle                        time.Duration
}

const header = "| shim | N | failed execs | lost exits | latest exit | longest State | wall | hung | dump |\n|---|---|---|---|---|---|---|---|---|"

func main() {
	var o options
	printHeader := flag.Bool("header", false, "print the table's header and exit")
	flag.StringVar(&o.shim, "shim", "", "shim binary to test")
	flag.StringVar(&o.guest, "guest", "bin/guest", "static guest binary (patches/floodtest/guest)")
	flag.StringVar(&o.runc, "runc", "runc", "OCI runtime")
	flag.StringVar(&o.name, "name", "", "name in the row (default: the path of the shim)")
	flag.StringVar(&o.stderr, "stderr", "", "file for the shim's standard error, else /dev/null as containerd does; a dump in it is searched for the ring")
	flag.StringVar(&o.dumps, "dumps", "/run/containerd-shim-stacks", "directory in which a patched shim leaves its dumps")
	flag.IntVar(&o.n, "n", 100, "concurrent execs (at most 2000)")
	flag.IntVar(&o.storm, "storm", 0, "instead of the flood: this many orphans of a host-pid container die while runc is slow to start one exec (at most 4000)")
	flag.DurationVar(&o.timeout, "limit", time.Minute, "limit for the whole flood")
	flag.DurationVar(&o.settle, "settle", 15*time.Second, "how long to wait afterwards for late exit events, State and the dump")
	flag.Parse()
	if *printHeader {
		fmt.Println(header)
		return
	}
	os.Exit(run(o))
}

func run(o options) int {
	if o.shim == "" || o.n < 1 || o.n > 2000 || o.storm < 0 || o.storm > 4000 || flag.NArg() > 0 {
		flag.Usage()
		return exitCannot
	}
	if o.name == "" {
		o.name = o.shim
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "floodtest: must be root: it starts containers")
		return exitCannot
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM)

	s, err := start(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "floodtest:", err)
		return exitCannot
	}
	rows := make(chan row, 1)
	go func() {
		if o.storm > 0 {
			rows <- s.orphanStorm()
			return
		}
		rows <- s.flood()
	}()
	select {
	case r := <-rows:
		err = s.stop()
		fmt.Println(r)
		for _, e := range r.errors {
			fmt.Fprintln(os.Stderr, "floodtest:", e)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "floodtest: clean up:", err)
			return exitCannot
		}
		return r.exitCode()
	case sig := <-interrupted:
		err = errors.Join(fmt.Errorf("interrupted by %v", sig), s.stop())
		fmt.Fprintln(os.Stderr, "floodtest:", err)
		return exitCannot
	}
}
