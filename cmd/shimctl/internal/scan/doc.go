// SPDX-License-Identifier: Apache-2.0

// Package scan finds the containerd shims of a host from /proc alone: no RPC,
// no signal, nothing that a stuck shim could block.
//
// A shim is recognised by the base name of its executable or of argv[0] and by its
// flags, never by comm, which the kernel cuts after 15 characters
// ("docker-containe"). Of a Foreign one the flags are not read, but the path of
// its bundle.
package scan

import "time"

// Kind is the generation of a shim.
type Kind string

// The kinds of shims.
const (
	V1 Kind = "v1" // runtime io.containerd.runtime.v1.linux: what shimctl judges and repairs
	V2 Kind = "v2" // containerd-shim-runc-v1 and -v2: listed, and their stacks taken
)

// Shim is one shim as /proc shows it.
type Shim struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"starttime_ticks"` // field 22 of stat: with the pid it identifies the process
	Kind       Kind   `json:"kind"`
	Namespace  string `json:"namespace"`
	ID         string `json:"id"`

	Exe     string `json:"exe"`
	Deleted bool   `json:"exe_deleted"` // the file was replaced or removed since
	Build   Build  `json:"build"`
	Hidden  bool   `json:"hidden,omitempty"` // permission to read its executable, bundle and descriptors is missing
	// Foreign says that it is of another pid namespace than this process, has another root
	// directory than the host's, or, if this process is root's, is another user's. Anybody can
	// start one that looks like a shim, and its paths need not be the host's. It is listed,
	// and its stacks are taken if it is named; it is not judged, repaired or upgraded.
	Foreign bool `json:"foreign,omitempty"`

	Age     time.Duration `json:"age_ns"`
	State   string        `json:"state"`  // R, S, D, T, t, Z
	Tracer  int           `json:"tracer"` // TracerPid, 0 for none
	Threads int           `json:"threads"`
	Anon    int64         `json:"anonymous_bytes"` // resident minus file pages
	SigCgt  uint64        `json:"-"`               // caught signals, as a bit mask
	UID     int           `json:"-"`               // the real one

	Init    Init      `json:"init"`
	Zombies []Process `json:"zombies,omitempty"`
	Runcs   []Runtime `json:"runc,omitempty"` // living runc children, the oldest first

	Workdir  string `json:"workdir,omitempty"`
	Address  string `json:"address,omitempty"` // the daemon's gRPC socket
	StackDir string `json:"stack_dir,omitempty"`
}

// Process is a child of a shim.
type Process struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"starttime_ticks"`
	Comm       string `json:"comm"`
	State      string `json:"state"`
}

// Init is the container's first process.
type Init struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"starttime_ticks,omitempty"`
	State      string `json:"state,omitempty"` // empty when it is gone
	WChan      string `json:"wchan,omitempty"` // zap_pid_ns_processes: it waits for zombies that nobody reaps
}

// Build is what the Go linker left in the executable.
type Build struct {
	Go      string `json:"go,omitempty"`
	Path    string `json:"path,omitempty"`
	Module  string `json:"module,omitempty"`
	Version string `json:"version,omitempty"`
	Ours    bool   `json:"ours"`
}

// Module is the main module of this project's shim.
const Module = "containerd-shim.v1"

// WhyForeign is the reason for which nothing is done to a Foreign shim.
const WhyForeign = "it has another root directory or pid namespace than the host, or is not root's; run shimctl there, as its user"

// Name is NAMESPACE/ID.
func (s *Shim) Name() string { return s.Namespace + "/" + s.ID }

// Catches reports whether the shim has a handler for the signal.
func (s *Shim) Catches(signal int) bool { return s.SigCgt&(1<<(signal-1)) != 0 }
