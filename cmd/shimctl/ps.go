// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"text/tabwriter"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/sanitize"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

func (p program) psVerb() verb {
	return verb{
		name: "ps", args: "[ID|PID...]", short: "list the shims of this host",
		long: `Lists every v1 shim, and the v2 shims (marked v2), from /proc alone: it asks no
shim and no daemon, so nothing that hangs can hang it.

ZOMBIES counts children that the shim has not reaped. BUILD ends in "ours" for
this project's shim and in "replaced" when the file on disk is another one now.
A shim of another mount or pid namespace is listed when its process is visible.

exit status: 0 listed, 2 /proc cannot be read or no such shim, 64 usage

examples:
  shimctl ps
  shimctl ps -n moby -o wide
  shimctl ps -q | wc -l
  shimctl ps -o json | jq '.shims[] | select(.exe_deleted)'`,
		flags: func(set *flag.FlagSet) func(context.Context, []string) int {
			namespace := set.String("n", "", "only this containerd `namespace`")
			quiet := set.Bool("q", false, "print pids only")
			format := set.String("o", "table", "`format`: table, wide or json")
			return func(_ context.Context, args []string) int {
				all, err := scan.Find(p.proc, *namespace, args)
				if err != nil {
					return p.fail(exitCheck, "ps", err)
				}
				return p.ps(all, *format, *quiet)
			}
		},
	}
}

func (p program) ps(all []scan.Shim, format string, quiet bool) int {
	switch {
	case quiet:
		for _, s := range all {
			fmt.Fprintln(p.out, s.PID)
		}
		return exitOK
	case format == "json":
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(map[string]any{"schema": "shimctl/v1", "shims": all}); err != nil {
			return p.fail(exitSome, "ps", err)
		}
		return exitOK
	case format != "table" && format != "wide":
		return p.fail(exitUsage, "ps", fmt.Errorf("unknown format %q", format))
	}
	w := tabwriter.NewWriter(p.out, 0, 8, 2, ' ', 0)
	head := "NAMESPACE\tCONTAINER\tPID\tINIT\tAGE\tKIND\tZOMBIES\tMEMORY\tBUILD"
	if format == "wide" {
		head += "\tSTATE\tTHREADS\tEXE\tADDRESS"
	}
	fmt.Fprintln(w, head)
	for _, s := range all {
		id := s.ID
		if format == "table" {
			id = shorten(id)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%d\t%.1fM\t%s", s.Namespace, id, s.PID, initOf(s), age(s.Age), s.Kind, len(s.Zombies), float64(s.Anon)/1e6, build(s))
		if format == "wide" {
			fmt.Fprintf(w, "\t%s\t%d\t%s\t%s", s.State, s.Threads, sanitize.Line(s.Exe), sanitize.Line(s.Address))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return p.fail(exitSome, "ps", err)
	}
	return exitOK
}

// shorten cuts a 64-digit id to the 12 digits that docker shows.
func shorten(id string) string {
	if len(id) == 64 {
		return id[:12]
	}
	return id
}

func initOf(s scan.Shim) string {
	switch {
	case s.Init.PID == 0:
		return "-"
	case s.Init.State == "":
		return fmt.Sprintf("(%d)", s.Init.PID) // gone
	}
	return fmt.Sprint(s.Init.PID)
}

// build is "go1.19.8 v1.6.20 replaced", as far as known.
func build(s scan.Shim) string {
	b := s.Build.Go
	if b == "" {
		b = "unknown"
	}
	if v := s.Build.Version; v != "" && v != "(devel)" {
		b += " " + v
	}
	if s.Build.Ours {
		b += " ours"
	}
	if s.Deleted {
		b += " replaced"
	}
	return b
}

// age rounds d down to one unit: 12d, 3h, 5m, 40s.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
