// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// program is a release of a daemon or of a runtime.
type program struct {
	name string // "containerd 1.4.13"; a dockerd runs on the containerd of the same directory
	dir  string // below what fetch and build have written
}

func (p program) kind() string { kind, _, _ := strings.Cut(p.name, " "); return kind }

// built reports whether the program is not Debian's, but made by integration/matrix/build.
func (p program) built() bool { return strings.HasPrefix(p.dir, "v") }

// at returns the path of one of the program's files; Debian has some in sbin.
func (p program) at(root, file string) string {
	if p.built() {
		return filepath.Join(root, p.dir, file)
	}
	sub := "usr/bin"
	if file == "dockerd" || file == "runc" || file == "criu" {
		sub = "usr/sbin"
	}
	return filepath.Join(root, p.dir, sub, file)
}

var (
	daemonPrograms = []program{
		{"containerd 1.1.4", "v1.1.4"},
		{"containerd 1.2.6", "v1.2.6"},
		{"containerd 1.4.13", "bullseye"},
		{"containerd 1.6.20", "bookworm"},
		{"containerd 1.7.24", "trixie"},
		{"dockerd 20.10.5", "bullseye"},
		{"dockerd 20.10.24", "bookworm"},
		{"releases 1.1.4-1.7.24", ""}, // each takes over from the last: way
	}
	runtimePrograms = []program{
		{"runc 1.0.0-rc93", "bullseye"},
		{"runc 1.1.5", "bookworm"},
		{"runc 1.1.15", "trixie"},
		{"runc 1.3.6", "sid"},
		{"crun 0.17", "bullseye"},
		{"crun 1.8.1", "bookworm"},
		{"crun 1.21", "trixie"},
		{"crun 1.28", "sid"},
	}
)

// pair is a daemon with a runtime; each has a private root and a private daemon.
type pair struct{ daemon, runtime program }

func (p pair) String() string { return p.daemon.name + " × " + p.runtime.name }

// scenarios returns what is run under such a daemon.
func (p pair) scenarios() []scenario { return scenariosOf(p.daemon.kind()) }

// impossible says why a scenario cannot work with a pair, whatever the shim; mostly it is
// empty.
func (p pair) impossible(scenario string) string {
	old := p.runtime.name == "crun 0.17" || p.runtime.name == "crun 1.8.1"
	switch {
	case old && p.daemon.name == "containerd 1.7.24":
		return "this crun refuses the version of the OCI specification that the daemon writes: \"unknown version specified\""
	case old && scenario == "checkpoint":
		return "this crun is built without CRIU"
	case p.runtime.name == "crun 1.28" && scenario == "checkpoint":
		return "CRIU, 4.2.1 or 4.1.1, does not restore an image that this crun has made, also without a shim: \"No mapping for 226:(null) mountpoint\""
	}
	return ""
}

// criu is what the pair's runtime checkpoints with: sid's with the runtimes of sid, and
// trixie's with all others, because older ones fail on newer kernels.
func (p pair) criu() program {
	if p.runtime.dir == "sid" {
		return program{"criu 4.2.1", "sid"}
	}
	return program{"criu 4.1.1", "trixie"}
}

// takes reports whether a daemon is paired with a runtime. That of containerd is with all
// of them; a dockerd is with those of its own release, and with the newest runc.
func (p program) takes(runtime program) bool {
	switch p.kind() {
	case "dockerd":
		return runtime.dir == p.dir || runtime.name == "runc 1.3.6"
	case "releases":
		return runtime.name == "runc 1.1.5" || runtime.name == "runc 1.3.6"
	}
	return true
}

// pairs returns every daemon with every runtime that it takes.
func pairs() (all []pair) {
	for _, d := range daemonPrograms {
		for _, r := range runtimePrograms {
			if d.takes(r) {
				all = append(all, pair{d, r})
			}
		}
	}
	return all
}

// find returns the pair of that name.
func find(name string) (pair, error) {
	all := pairs()
	i := slices.IndexFunc(all, func(p pair) bool { return p.String() == name })
	if i < 0 {
		return pair{}, errors.New("no such pair: " + name)
	}
	return all[i], nil
}

// scenario is one thing that users do. run returns nil if all went as it must, and an
// error that wraps errNotRun if this host, or this daemon, cannot do it.
type scenario struct {
	name string
	what string
	run  func(*bench, context.Context) error
}

var errNotRun = errors.New("not run")

// scenariosOf returns the scenarios of a kind of daemon.
func scenariosOf(kind string) []scenario {
	switch kind {
	case "dockerd":
		return dockerScenarios
	case "releases":
		return wayScenarios
	}
	return containerdScenarios
}

var containerdScenarios = []scenario{
	{"run", "run in the foreground: output, exit code", (*bench).foreground},
	{"exec", "exec by pipe: input, output, exit code, a program that is not there", (*bench).exec},
	{"terminal", "exec on a terminal: its size, input, exit code", (*bench).terminal},
	{"kill", "SIGTERM to a program that handles it, SIGKILL: exit codes and events", (*bench).kill},
	{"pause", "pause, resume, and death while paused", (*bench).pause},
	{"update", "limits of memory and of processes changed in a running container", (*bench).update},
	{"restart", "daemon killed and started again; one container lives on, one ends meanwhile", (*bench).restart},
	{"flood", "200 execs at once: exit codes, events, answers", (*bench).flood},
	{"checkpoint", "CRIU: image of a container on pipes and of one on a terminal, going on and ending; restore of both", (*bench).checkpoint},
}

var dockerScenarios = []scenario{
	{"run", "docker run, and with -i: output, input, exit codes, a program that is not there", (*bench).dockerRun},
	{"terminal", "docker run -it and docker exec -it: size, input, exit code", (*bench).dockerTerminal},
	{"exec", "docker exec: both streams, input, exit codes, death by a signal", (*bench).dockerExec},
	{"logs", "docker logs -f from the first line to the container's end", (*bench).dockerLogs},
	{"kill", "docker kill, docker stop: exit codes, as docker wait and inspect report them", (*bench).dockerKill},
	{"pause", "docker pause and unpause", (*bench).dockerPause},
	{"restore", "both daemons killed and started again; one container lives on, one ends meanwhile", (*bench).dockerRestore},
	{"rm", "docker rm -f of a container that runs, and of one that is paused; its name is free again", (*bench).dockerRemove},
	{"userns", "dockerd with userns-remap: root of the container is another user outside, also for its output", (*bench).dockerUserns},
	{"flood", "100 docker exec at once: exit codes", (*bench).dockerFlood},
}

var wayScenarios = []scenario{
	{"up", "each release takes over from the one before it: containers live on, exits meanwhile, exec", (*bench).up},
	{"down", "the same back to the first", (*bench).down},
}

// census is the scenario that ends each pair: nothing may be left behind.
const census = "census"
