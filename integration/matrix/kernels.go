// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"containerd-shim.v1/integration/harness"
)

// What `make kernel/run` shows is kept in the same record as the cells. The pair is the
// kernel, and the scenario a check of the catalogue, or one of these two.
const (
	kernelPrefix = "kernel "
	booted       = "boot"  // its reason is what the guest says of itself
	flooded      = "flood" // its reason has the figures
)

var (
	endLine   = regexp.MustCompile(`^guest: exit status (\d+)$`)
	guestLine = regexp.MustCompile(`^guest: Linux (\S+), (.*)$`)
	checkLine = regexp.MustCompile(`^(pass|fail|broken) +(\S+) `)
	floodLine = regexp.MustCompile(`^\| \S+ \| (\d+) \| (\d+) \| (\d+) \|.*\| (yes|no|gone) \| (yes|no) \|$`)
)

// guest follows what a guest of integration/kernel/boot prints.
type guest struct {
	kernel  string
	ended   bool   // by itself
	exit    string // the command's exit status
	results []result
}

// read takes the next line, which has come so long after the last result.
func (g *guest) read(line string, took time.Duration) {
	add := func(scenario string, v verdict, reason string) {
		g.results = append(g.results, result{Pair: kernelPrefix + g.kernel, Scenario: scenario, Verdict: v, Reason: reason, Took: took.Round(time.Second).String()})
	}
	switch m := checkLine.FindStringSubmatch(line); {
	case endLine.MatchString(line):
		g.ended, g.exit = true, endLine.FindStringSubmatch(line)[1]
	case guestLine.MatchString(line):
		m := guestLine.FindStringSubmatch(line)
		g.kernel = m[1]
		add(booted, passed, m[2])
	case g.kernel == "":
	case m != nil:
		add(m[2], map[string]verdict{string(harness.Pass): passed, string(harness.Fail): failed, string(harness.Broken): notRun}[m[1]], "")
	case floodLine.MatchString(line):
		m := floodLine.FindStringSubmatch(line)
		v, reason := passed, fmt.Sprintf("%s execs at once, %s failed, %s exits lost", m[1], m[2], m[3])
		if !slices.Equal(m[2:], []string{"0", "0", "no", "yes"}) {
			v, reason = failed, fmt.Sprintf("%s, hung: %s, dump: %s", reason, m[4], m[5])
		}
		add(flooded, v, reason)
	case strings.HasPrefix(line, "       "):
		if last := &g.results[len(g.results)-1]; last.Verdict != passed && last.Reason == "" {
			last.Reason = strings.TrimSpace(line)
		}
	}
}

// kernel shows what a guest prints, and puts its results into the record.
func (o options) kernel(in io.Reader, records record) (status int, err error) {
	var g guest
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	begun, seen := time.Now(), 0
	for lines.Scan() {
		fmt.Println(lines.Text())
		g.read(lines.Text(), time.Since(begun))
		if len(g.results) > seen {
			begun, seen = time.Now(), len(g.results)
		}
	}
	fails := map[string]bool{} // a check may have run more than once
	for _, r := range g.results {
		if r.Verdict == failed {
			fails[r.Scenario], status = true, 1
		}
		if r.Verdict == failed || !fails[r.Scenario] {
			records.put(r)
		}
	}
	if err := errors.Join(lines.Err(), records.write(o.record)); err != nil {
		return 0, err
	}
	switch {
	case !g.ended:
		return 0, errors.New("the guest has not ended by itself")
	case g.exit != "0" && status == 0: // nothing that it printed says why
		return 0, fmt.Errorf("the guest's command has ended with %s", g.exit)
	}
	return status, nil
}

const kernelPreface = `## Another kernel, cgroup v2

` + "`make kernel/run`" + ` boots Debian's cloud kernel in qemu, without KVM, with cgroup v2 alone, and runs checks of the catalogue on this shim there, with
real runc 1.1.5 and without a daemon. ` + "`make kernel/arm64`" + ` does so on another processor, also emulated, with runc 1.1.15. The guest's clock counts instructions, so that no time-out depends on how slow the emulation is. What it
took is the host's time, of two CPUs that had other work too; integration/matrix/record.json has it of each check.

A row that ends in /unit has the packages whose unit tests passed there (` + "`make kernel/unit`, `make kernel/arm64-unit`" + `), without the race detector, with the programs of Debian 12; two
tests are left out because they build something with Go, TestVersionIsTheShims and TestDemoBuildsItsOldShim, and those of in-place exchanges of upstream's shims are for amd64 alone. One that ends in /packages has the arm64 packages under dpkg (` + "`make kernel/arm64-packages`" + `).

A row that ends in /systemd has cgroup v1 and systemd as process 1: ` + "`make kernel/systemd`" + ` boots a Debian 12 with its containerd 1.6.20, dockerd 20.10.24 and runc 1.1.5, and this project's packages:

| check | |
|---|---|
| package_install, package_purge | dpkg -i: the daemon's shim is ours, and no timer is enabled; dpkg -P: its own is back, and nothing is left |
| container | under containerd.service: run, exec, kill, their output and exit codes; nothing is left |
| driver | systemd as the cgroup driver, by dockerd with native.cgroupdriver=systemd (ctr cannot ask for it): the container is in its scope; run, exec, pause, update, exchange in place, daemon-reload, kill, OOM, stop of the scope; no scope or cgroup is left |
| kill_process, kill_none | systemctl restart containerd with that KillMode: shim and container live on, and the exit arrives; with none the daemon needs an ExecStop= |
| kill_control_group, kill_mixed | the same restart ends the container; containerd comes back, nothing is left, and the name is free |
| read_only | a root that is mounted read-only, with tmpfs at /tmp and /var/lib/containerd: run, exec, kill, stack dump, exchange in place by shimctl upgrade -dir /run/shimctl, for its lock is below /var/lib otherwise |

| kernel | has | passed | not passed | took |
|---|---|---|---|---|
`

// kernels is the part of the document that has the guests.
func (r record) kernels() string {
	var b strings.Builder
	b.WriteString(kernelPreface)
	var notes []string
	for _, pair := range slices.Sorted(maps.Keys(r)) {
		name, isKernel := strings.CutPrefix(pair, kernelPrefix)
		if !isKernel {
			continue
		}
		var good, bad []string
		var took time.Duration
		for _, scenario := range slices.Sorted(maps.Keys(r[pair])) {
			res := r[pair][scenario]
			d, _ := time.ParseDuration(res.Took) // none is nothing
			took += d
			switch {
			case scenario == booted, scenario == flooded:
			case res.Verdict == passed:
				good = append(good, scenario)
			default:
				bad = append(bad, scenario+" "+sign[res.Verdict])
			}
			if res.Reason != "" && scenario != booted {
				notes = append(notes, fmt.Sprintf("- %s, %s: %s", name, scenario, res.Reason))
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %d: %s | %s | %s |\n", name, r[pair][booted].Reason, len(good), strings.Join(good, " "), strings.Join(bad, ", "), took)
	}
	if len(notes) > 0 {
		b.WriteString("\n" + strings.Join(notes, "\n") + "\n")
	}
	return b.String()
}
