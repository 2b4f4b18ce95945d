// SPDX-License-Identifier: Apache-2.0

// Command chaos runs a steady stream of execs in containers of a private containerd,
// while at random the daemon is killed and stopped, runc is killed and stopped,
// containers are paused, clients vanish, FIFOs are removed, stacks are dumped, the state
// file system is full, without inodes or read-only, memory is short, and shims are
// exchanged in place. Exit status 0 means that no exit was lost or wrong, that every
// call was answered, that nothing grows, and that nothing is left behind. A run of the
// default length is too short to judge growth, and says so in its last line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"containerd-shim.v1/integration/daemons"
	"containerd-shim.v1/integration/harness/session"
)

func main() {
	shim := flag.String("shim", "bin/containerd-shim", "the shim to test")
	minutes := flag.Float64("minutes", 2, "how long")
	seed := flag.Uint64("seed", 1, "which faults, in which order")
	containers := flag.Int("containers", 3, "how many at a time")
	exchange := flag.Bool("exchange", false, "exchange shims in place, which only this project's can")
	faults := flag.String("faults", "", "only these `names`, comma separated, as the report has them")
	page := flag.String("html", "", "write a page with plots of memory, descriptors and threads to this `file`")
	verbose := flag.Bool("v", false, "print each fault")
	flag.Parse()
	ctx, stop := session.Context()
	problems, err := chaos(ctx, *shim, *page, *exchange, *verbose, daemons.Chaos{
		For: time.Duration(*minutes * float64(time.Minute)), Seed: *seed, Containers: *containers,
		Faults: strings.FieldsFunc(*faults, func(r rune) bool { return r == ',' }),
		Log: func(text string) {
			if *verbose {
				fmt.Println(text)
			}
		},
	})
	stop()
	for _, p := range problems {
		fmt.Println("PROBLEM:", p)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	case len(problems) > 0:
		os.Exit(1)
	}
}

func chaos(ctx context.Context, shim, page string, exchange, verbose bool, c daemons.Chaos) (problems []string, err error) {
	r, err := daemons.New(shim)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := r.Close(); e != nil {
			problems = append(problems, "not clean: "+e.Error())
		}
	}()
	if exchange {
		// A copy, so that each exchange is one for another file.
		program, err := os.ReadFile(r.Bin)
		if err != nil {
			return nil, err
		}
		other := filepath.Join(r.Dir, "bin", "containerd-shim")
		if err := os.WriteFile(other, program, 0o700); err != nil {
			return nil, err
		}
		c.Programs = []string{r.Bin, other}
	}
	report, err := r.Chaos(ctx, c)
	if report == nil {
		return nil, err
	}
	if verbose {
		for _, text := range report.Refused {
			fmt.Println("refused:", text)
		}
	}
	fmt.Println(report)
	if len(report.Slopes()) > 0 {
		fmt.Println(report.Trend())
	} else { // no problem, but no proof either
		fmt.Printf("%s: growth is NOT judged; give it more -minutes\n", report.Trend())
	}
	if page != "" {
		err = errors.Join(err, write(page, report, fmt.Sprintf("%v of %s, seed %d", c.For, shim, c.Seed)))
	}
	return report.Problems(), err
}

func write(file string, report *daemons.ChaosReport, title string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(report.WriteHTML(f, title), f.Close())
}
