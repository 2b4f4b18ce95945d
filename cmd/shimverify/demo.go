// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
)

// demoLimit bounds each part of the demonstration.
const demoLimit = 50 * time.Second

// progressEvery is how often the demonstration says how far it is.
const progressEvery = time.Second

// quietEvery is how often it says that nothing happens.
const quietEvery = 4 * time.Second

// demo floods an old shim until it hangs, shows why, floods another one, and heals
// the first.
func demo(args []string) error {
	fs := flag.NewFlagSet("shimverify demo", flag.ContinueOnError)
	shim := fs.String("shim", beside("containerd-shim"), "the shim that has to survive")
	vs := fs.String("vs", "", "the shim that hangs: upstream's v1.1.2 or v1.2.0 (default: the baseline, if it was built)")
	runtime := fs.String("runtime", "runc", "the OCI runtime")
	size := fs.Int("size", catalogue.FloodSize, "how many execs at once")
	full := fs.Bool("stacks", false, "print all stacks of the hung shim")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *vs == "" {
		var err error
		if *vs, err = baseline(); err != nil {
			return err
		}
	}
	cfg, err := setup(*vs, *runtime)
	if err != nil {
		return err
	}
	defer cfg.Close() //nolint:errcheck // the next run sweeps
	ours, err := cfg.WithShim(*shim)
	if err != nil {
		return err
	}
	if err := errors.Join(cfg.ProbeShim(), ours.ProbeShim()); err != nil {
		return err
	}
	fmt.Printf("1. %d `runc exec true` at once on %s\n", *size, *vs)
	hung := floodOnce(cfg, "demo-vs", *size, nil)
	if hung.Verdict == harness.Pass {
		fmt.Println("   It survived: it is not one of the releases that hang, or this host is too quiet (--size).")
	} else {
		fmt.Println("   It hangs. Who waits for whom, from its stacks:")
		explain(os.Stdout, hung.Stacks)
		if *full {
			fmt.Println(hung.Stacks)
		}
	}
	fmt.Printf("\n2. The same on %s\n", *shim)
	survived := floodOnce(ours, "demo", *size, nil)
	switch {
	case survived.Verdict == harness.Broken || hung.Verdict == harness.Broken:
		return errors.New("demo: could not be run")
	case survived.Verdict == harness.Fail || hung.Verdict == harness.Pass:
		return errFailed
	}
	fmt.Printf("   All %d execs have ended, every exit has reached the daemon, no zombie is left.\n", *size)
	return heal(cfg, ours.Shim, *vs, *size)
}

// heal floods the old shim once more, and exchanges its program while it hangs.
func heal(cfg harness.Config, program, vs string, size int) error {
	shimctl, err := exec.LookPath(beside("shimctl"))
	if err != nil {
		return fmt.Errorf("demo: the third part needs shimctl beside shimverify: %w", err)
	}
	fmt.Printf("\n3. Once more on %s, which is healed in place while it hangs\n", vs)
	dir, err := os.MkdirTemp("", "shimverify-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run := func(args ...string) bool {
		fmt.Println("   # shimctl", strings.Join(args, " "))
		out, err := exec.Command(shimctl, args...).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			fmt.Print("   ", line)
		}
		return err == nil
	}
	healed := 0
	r := floodOnce(cfg, "demo-heal", size, func(pid int) bool {
		healed = pid
		return run("repair", "-yes", "-binary", program, "-dir", dir, "-state-file", "", "-state", "always", strconv.Itoa(pid)) &&
			run("ps", strconv.Itoa(pid))
	})
	if r.Verdict != harness.Pass || healed == 0 {
		return errFailed
	}
	fmt.Printf("   All %d execs have ended, each with its own status; the container has noticed nothing.\n", size)
	return nil
}

// floodOnce calls hung, if it is not nil, when the shim stands still.
func floodOnce(cfg harness.Config, name string, n int, hung func(pid int) bool) harness.Result {
	p := &progress{begun: time.Now(), told: time.Now(), all: n}
	quiet := time.NewTicker(quietEvery)
	defer quiet.Stop()
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case <-quiet.C:
				p.still()
			case <-over:
				return
			}
		}
	}()
	r := harness.Run(cfg, name, demoLimit, func(c *harness.Case) { catalogue.Flood(c, n, catalogue.Watch{Ended: p.ended, Hung: hung}) })
	for _, m := range r.Messages {
		p.say(m)
	}
	return r
}

// progress tells how far a flood is, and also when it gets no further.
type progress struct {
	begun time.Time
	all   int

	mu   sync.Mutex // guards the following
	told time.Time
	last int
}

func (p *progress) say(text string) {
	fmt.Printf("   %5.1f s  %s\n", time.Since(p.begun).Seconds(), text)
}

func (p *progress) ended(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = n
	if n < p.all && time.Since(p.told) < progressEvery {
		return
	}
	p.told = time.Now()
	p.say(fmt.Sprintf("%d of %d execs have ended", n, p.all))
}

func (p *progress) still() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.told) >= quietEvery && p.last < p.all {
		p.say(fmt.Sprintf("still %d of %d", p.last, p.all))
	}
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

// baseline is a shim of upstream's that hangs: the one that the makefile has
// built, or one that is built now, from the nested module in the source tree.
func baseline() (string, error) {
	const release = "v1.1.2"
	root := filepath.Dir(filepath.Dir(beside("shimverify")))
	for _, dir := range []string{"bin/baselines", filepath.Join(root, "bin", "baselines")} {
		for _, r := range []string{release, "v1.2.0"} {
			if path, err := exec.LookPath(filepath.Join(dir, r, "containerd-shim")); err == nil {
				return path, nil
			}
		}
	}
	for _, tree := range []string{".", root} {
		build, err := exec.LookPath(filepath.Join(tree, "integration", "upstream", "build"))
		if err != nil {
			continue
		}
		dir := filepath.Join(tree, "bin", "baselines")
		fmt.Printf("0. Build upstream's %s into %s\n", release, dir)
		cmd := exec.Command(build, dir, "containerd-shim", release)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("demo: build upstream's %s (it needs Go and its module proxy): %w", release, err)
		}
		return filepath.Join(dir, release, "containerd-shim"), nil
	}
	return "", errors.New("demo: no shim to hang: give upstream's v1.1.2 or v1.2.0 with --vs PATH, or run it in the source tree, where it builds one")
}
