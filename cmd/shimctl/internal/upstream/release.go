// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"cmp"
	"debug/buildinfo"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/cmd/shimctl/internal/gotext"
)

// Release is how one release of upstream's shim lays out its state. Offsets are in
// bytes; 0 means that the release does not have the field, since no field that is read
// is the first of its structure.
type Release struct {
	Name    string
	builds  []int  // with which minor releases of Go 1 it was tried
	service string // package of Service
	process string // package of Init and execProcess
	ttrpc   string // package of ttrpc's server
	specs   specLayout

	init, exec processLayout
	safePid    bool   // an exec's pid is {mutex, pid}
	pidPointer bool   // an exec's pid is a pointer to that
	ioPointer  bool   // io is a pointer to {IO, …}, not an IO
	message    uint64 // size of protobuf's own state in front of a message's fields
	any        uint64 // the same of an Any, which protobuf itself brings along
	calls      bool   // ttrpc 1.2, where a request and its stream are only in closures
}

// processLayout has the offsets of the fields of Init or execProcess.
type processLayout struct {
	state, waitBlock, id, console, io, status, exited, pid, stdio uint64

	runtime, ioUID, noPivotRoot, criuWork uint64 // Init
	bundle, pausing                       uint64 // Init
	spec, parent                          uint64 // execProcess
}

// Offsets in Service, in every release.
const (
	serviceProcesses = 112
	serviceEvents    = 120
	serviceExits     = 144
	serviceID        = 152
)

const (
	containerd = "github.com/containerd/containerd/"
	newTTRPC   = "github.com/containerd/ttrpc"
)

// releases are those that were tested, with the releases of Go that built them. Builds
// of upstream's tags with the modules that it vendors have the same layouts, except where
// another release of Go, of the runtime specification or of protobuf makes a difference;
// those are not known here, and refused.
var releases = []*Release{
	{
		Name: "v1.1.2", builds: []int{15, 19, 26}, service: containerd + "linux/shim", process: containerd + "linux/proc", ttrpc: "github.com/stevvooe/ttrpc",
		specs: specs102, init: init11, exec: exec11,
	},
	{
		Name: "v1.2.0", builds: []int{15, 19, 26}, service: containerd + "runtime/v1/shim", process: containerd + "runtime/v1/linux/proc", ttrpc: newTTRPC,
		specs: specs102, init: init12, exec: exec11,
	},
	{
		Name: "v1.2.6", builds: []int{15, 19, 26}, service: containerd + "runtime/v1/shim", process: containerd + "runtime/v1/linux/proc", ttrpc: newTTRPC,
		specs: specs102, init: init12, exec: exec11, safePid: true, pidPointer: true,
	},
	{
		Name: "v1.2.13", builds: []int{15, 19, 26}, service: containerd + "runtime/v1/shim", process: containerd + "runtime/v1/linux/proc", ttrpc: newTTRPC,
		specs: specs102, init: init1213, exec: exec1213, safePid: true,
	},
	{
		Name: "v1.6.38", builds: []int{26}, service: containerd + "runtime/v1/shim", process: containerd + "pkg/process", ttrpc: newTTRPC,
		specs: specs103, init: init16, exec: exec16, safePid: true, ioPointer: true,
	},
	{
		Name: "v1.7.35", builds: []int{26}, service: containerd + "runtime/v1/shim", process: containerd + "pkg/process", ttrpc: newTTRPC,
		specs: specs110, init: init16, exec: exec17, safePid: true, ioPointer: true, message: 40, any: 40, calls: true,
	},
}

var (
	init11 = processLayout{state: 16, waitBlock: 40, id: 64, bundle: 80, console: 96, io: 128, runtime: 144, status: 152, exited: 160,
		pid: 184, stdio: 232, ioUID: 304}
	init12 = processLayout{state: 16, waitBlock: 40, id: 64, bundle: 80, console: 96, io: 128, runtime: 144, status: 152, exited: 160,
		pid: 184, stdio: 232, ioUID: 304, noPivotRoot: 320}
	init1213 = processLayout{state: 16, waitBlock: 40, id: 64, bundle: 80, console: 96, io: 128, runtime: 144, pausing: 152, status: 160, exited: 168,
		pid: 192, stdio: 240, ioUID: 312, noPivotRoot: 328}
	init16 = processLayout{state: 16, waitBlock: 40, id: 64, bundle: 80, console: 96, io: 128, runtime: 136, pausing: 144, status: 152, exited: 160,
		pid: 184, stdio: 232, ioUID: 304, noPivotRoot: 320, criuWork: 328}

	exec11   = processLayout{state: 16, id: 40, console: 56, io: 72, status: 88, exited: 96, pid: 120, stdio: 168, spec: 240, parent: 472, waitBlock: 480}
	exec1213 = processLayout{state: 16, id: 40, console: 56, io: 72, status: 88, exited: 96, pid: 120, stdio: 176, spec: 248, parent: 480, waitBlock: 488}
	exec16   = processLayout{state: 16, id: 40, console: 56, io: 72, status: 80, exited: 88, pid: 112, stdio: 168, spec: 240, parent: 472, waitBlock: 480}
	exec121  = processLayout{state: 16, id: 40, console: 56, io: 72, status: 80, exited: 88, pid: 112, stdio: 168, spec: 240, parent: 496, waitBlock: 504}
	exec17   = processLayout{state: 16, id: 40, console: 56, io: 72, status: 80, exited: 88, pid: 112, stdio: 168, spec: 240, parent: 488, waitBlock: 496}
)

// ErrUnknown is wrapped by errors for a build that is not known.
var ErrUnknown = errors.New("not a build whose memory can be read")

// debian are the shims in Debian's packages, by the minor release of Go 1 that built them.
// They are built with Debian's own modules, which leave no version in the program; that
// it is one of these shows by its functions and by what is checked when it is read.
var debian = map[int]*Release{
	15: { // bullseye: 1.4.13
		Name: "Debian 1.4.13", service: containerd + "runtime/v1/shim", process: containerd + "pkg/process", ttrpc: newTTRPC,
		specs: specs103, init: init16, exec: exec16, safePid: true, ioPointer: true,
	},
	19: { // bookworm: 1.6.20
		Name: "Debian 1.6.20", service: containerd + "runtime/v1/shim", process: containerd + "pkg/process", ttrpc: newTTRPC,
		specs: specs103, init: init16, exec: exec16, safePid: true, ioPointer: true,
	},
	24: { // trixie: 1.7.24
		Name: "Debian 1.7.24", service: containerd + "runtime/v1/shim", process: containerd + "pkg/process", ttrpc: newTTRPC,
		specs: specs110, init: init16, exec: exec121, safePid: true, ioPointer: true, message: 40, any: 8, calls: true,
	},
}

// Program is the program of a running shim.
type Program struct {
	*Release
	Era  *goheap.Era
	Text *gotext.Table
}

// Identify returns the program of a process, with its release. The error wraps
// ErrUnknown if that is not known. The caller must close the program's Text.
func Identify(pid int) (*Program, error) {
	info, err := buildinfo.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrUnknown, err)
	}
	era := goheap.For(info.GoVersion)
	if era == nil {
		return nil, fmt.Errorf("%w: built with %s", ErrUnknown, info.GoVersion)
	}
	r, version := known(info)
	if r == nil {
		return nil, fmt.Errorf("%w: %s, built with %s", ErrUnknown, version, info.GoVersion)
	}
	text, err := gotext.Open(pid)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{r.service + ".(*Service).processExits", r.process + ".(*Init).Wait", r.process + ".(*execProcess).start", r.ttrpc + ".(*serverConn).run"} {
		if text.Entry(name) == 0 {
			_ = text.Close()
			return nil, fmt.Errorf("%w: it has no function %s", ErrUnknown, name)
		}
	}
	return &Program{r, era, text}, nil
}

// known returns the release of a program, or nil and what the program says it is.
func known(info *debug.BuildInfo) (r *Release, version string) {
	const module = "github.com/containerd/containerd"
	if info.Main.Path == module {
		version = info.Main.Version
	}
	for _, d := range info.Deps {
		if d.Path == module {
			version = d.Version
		}
	}
	toolchain := goheap.Minor(info.GoVersion)
	for _, r := range releases {
		if r.Name == version && slices.Contains(r.builds, toolchain) {
			return r, ""
		}
	}
	if version == "" && info.Main.Path == "" {
		return debian[toolchain], "no version of containerd"
	}
	return nil, cmp.Or(version, "no version of containerd")
}
