// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"containerd-shim/integration"
	"containerd-shim/integration/catalogue"
)

// demoLimit bounds each half of the demonstration.
const demoLimit = 50 * time.Second

// progressEvery is how often the demonstration says how far it is.
const progressEvery = 300 * time.Millisecond

// demo floods an old shim until it hangs, shows why, and floods another one.
func demo(args []string) error {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	shim := fs.String("shim", beside("containerd-shim"), "the shim that has to survive")
	vs := fs.String("vs", "", "the shim that hangs: upstream's v1.1.2 or v1.2.0 (default: the baseline, if it was built)")
	runtime := fs.String("runtime", "runc", "the OCI runtime")
	size := fs.Int("size", catalogue.FloodSize, "how many execs at once")
	full := fs.Bool("stacks", false, "print all stacks of the hung shim")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *vs == "" {
		*vs = builtBaseline()
	}
	if *vs == "" {
		return errors.New("demo: no shim to hang: give upstream's v1.1.2 or v1.2.0 with --vs PATH, or build them below integration/baselines")
	}
	cfg, err := setup(*vs, *runtime)
	if err != nil {
		return err
	}
	defer cfg.Close() //nolint:errcheck // the next run sweeps
	fmt.Printf("1. %d `runc exec true` at once on %s\n", *size, *vs)
	hung := floodOnce(cfg, "demo-vs", *size)
	if hung.Verdict == integration.Pass {
		fmt.Println("   It survived: it is not one of the releases that hang, or this host is too quiet (--size).")
	} else {
		fmt.Println("   It hangs. Who waits for whom, from its stacks:")
		explain(os.Stdout, hung.Stacks)
		if *full {
			fmt.Println(hung.Stacks)
		}
	}
	ours, err := cfg.WithShim(*shim)
	if err != nil {
		return err
	}
	fmt.Printf("\n2. The same on %s\n", *shim)
	survived := floodOnce(ours, "demo", *size)
	switch {
	case survived.Verdict == integration.Broken || hung.Verdict == integration.Broken:
		return errors.New("demo: could not be run")
	case survived.Verdict == integration.Fail || hung.Verdict == integration.Pass:
		return errFailed
	}
	fmt.Printf("   All %d execs have ended, every exit has reached the daemon, no zombie is left.\n", *size)
	return nil
}

func floodOnce(cfg integration.Config, name string, n int) integration.Result {
	begun, told := time.Now(), time.Time{}
	r := integration.Run(cfg, name, demoLimit, func(c *integration.Case) {
		catalogue.Flood(c, n, func(ended int) {
			if ended < n && time.Since(told) < progressEvery {
				return
			}
			told = time.Now()
			fmt.Printf("   %5.1f s  %d of %d execs have ended\n", time.Since(begun).Seconds(), ended, n)
		})
	})
	for _, m := range r.Messages {
		fmt.Printf("   %5.1f s  %s\n", time.Since(begun).Seconds(), m)
	}
	return r
}

// beside is a binary of this project: they are built into one directory.
func beside(name string) string {
	if me, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(me), name)); err == nil {
			return path
		}
	}
	return name
}

// builtBaseline is a baseline that hangs, where the makefile puts it.
func builtBaseline() string {
	for _, dir := range []string{"bin/baselines", filepath.Join(filepath.Dir(beside("shimverify")), "baselines")} {
		for _, release := range []string{"v1.1.2", "v1.2.0"} {
			if path, err := exec.LookPath(filepath.Join(dir, release, "containerd-shim")); err == nil {
				return path
			}
		}
	}
	return ""
}
