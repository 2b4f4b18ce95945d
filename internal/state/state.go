// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"time"
)

// Version is the version of the files that this package writes.
const Version = 1

// FD is a descriptor of the process. 0 means none: 0, 1 and 2 are the shim's own
// stdio, which stays as it is. Every FD must stay open across the execve(2), that
// is, be without FD_CLOEXEC. The adopting shim sets the flag again, and closes
// every other descriptor that it was given.
type FD int

// Shim is the state of a whole shim.
type Shim struct {
	Version int `json:"version"`
	// Writer names the program that wrote the state, for people to read.
	Writer string `json:"writer,omitempty"`
	// Listener is the socket on which clients connect. Without one the shim
	// serves only Connections.
	Listener FD `json:"listener,omitempty"`
	// Container is nil before Create has succeeded, and in a shim of which
	// nothing is known.
	Container *Container `json:"container,omitempty"`
	// Execs are the other processes that were not deleted, including those that
	// have yet to be started and those that are dead.
	Execs []Exec `json:"execs,omitempty"`
	// Leaving are the streams of deleted processes whose output still flows or
	// waits for a reader.
	Leaving []Streams `json:"leaving,omitempty"`
	// Seq is the number of the latest death that was seen; later ones get larger
	// numbers. It is at least the largest Seq in Held.
	Seq uint64 `json:"seq,omitempty"`
	// Held are the exits that are recorded but in no event yet, in the order of
	// death: that of each process with an Exit, unless its event is in Events or
	// was taken. A writer that does not know puts the exit here: a daemon ignores
	// an exit that it has had before.
	Held []Held `json:"held,omitempty"`
	// Told says that the container's own exit is in Events, or was taken.
	Told bool `json:"told,omitempty"`
	// Events are those that the daemon has not taken yet, the oldest first, each
	// an encoded containerd.services.events.v1.Envelope.
	Events [][]byte `json:"events,omitempty"`
	// Deleted is the answer to Delete, once that has succeeded, for a daemon that
	// asks again. Container is then set, too.
	Deleted *Deleted `json:"deleted,omitempty"`
	// Connections are the clients' connections.
	Connections []Connection `json:"connections,omitempty"`
}

// Phase is where a process is in its life; see proc.Phase.
type Phase string

// The phases.
const (
	Created Phase = "created"
	Running Phase = "running"
	Paused  Phase = "paused" // the container only
	Stopped Phase = "stopped"
)

// Process is what a container's own process and an exec have in common.
type Process struct {
	ID string `json:"id"`
	// Phase is Created until a start has succeeded, even while one is underway,
	// see Start. A process that has died, reaped or not, need not be Stopped:
	// without an Exit it is waited for as a child, and if it is no child, its
	// status is unknown.
	Phase Phase `json:"phase"`
	// Pid is 0 before there is a process. A container that is Created has one,
	// unless it is a checkpoint that is yet to be restored. Pid stays after the
	// exit.
	Pid int `json:"pid,omitempty"`
	// Exit is set if and only if the phase is Stopped, or a start has failed.
	Exit *Exit `json:"exit,omitempty"`

	// The streams as the client has named them, for State to report.
	Stdin    string `json:"stdin,omitempty"`
	Stdout   string `json:"stdout,omitempty"`
	Stderr   string `json:"stderr,omitempty"`
	Terminal bool   `json:"terminal,omitempty"`

	// Size is the terminal's size that ResizePty asked for last; nil if it never
	// did, or if that is not known. The terminal keeps its size either way.
	Size *Size `json:"size,omitempty"`
	// StdinClosed says that CloseIO was called.
	StdinClosed bool `json:"stdin_closed,omitempty"`
	// Streams is nil if none are open: before the start of an exec, and once all
	// are closed.
	Streams *Streams `json:"streams,omitempty"`
	// Start is the latest start, nil if there was none. For a running process nil
	// also stands for a start that the daemon has published long ago.
	Start *Start `json:"start,omitempty"`
}

// Exit is the end of a process.
type Exit struct {
	// Status is 0 to 255; 255 if it is not known.
	Status int `json:"status"`
	// At is the time of death; zero if there was no process.
	At time.Time `json:"at"`
}

// Size is a terminal's, in characters.
type Size struct {
	Width  uint16 `json:"width"`
	Height uint16 `json:"height"`
}

// Container is the container and its own process.
type Container struct {
	Process
	// Bundle is its directory; "" means the shim's working directory.
	Bundle string `json:"bundle,omitempty"`
	// Runtime is the name or path of the runtime's binary, as Create gave it;
	// "" means runc.
	Runtime string `json:"runtime,omitempty"`
	// Rootfs is what the shim has mounted on the bundle's rootfs, for Delete to
	// unmount; empty if it has mounted nothing. If the list is not known, a single
	// empty Mount stands for "whatever is mounted there".
	Rootfs []Mount `json:"rootfs,omitempty"`
	// Checkpoint is the image that the container was, or is to be, restored from.
	Checkpoint string `json:"checkpoint,omitempty"`
	// The options of Create. They matter for execs (the owner of their pipes) and
	// for a restore that is yet to come. The defaults if they are not known.
	NoPivotRoot  bool   `json:"no_pivot_root,omitempty"`
	NoNewKeyring bool   `json:"no_new_keyring,omitempty"`
	IoUID        uint32 `json:"io_uid,omitempty"`
	IoGID        uint32 `json:"io_gid,omitempty"`
	CriuWorkPath string `json:"criu_work_path,omitempty"`
}

// Mount is one of Create's mounts.
type Mount struct {
	Type    string   `json:"type,omitempty"`
	Source  string   `json:"source,omitempty"`
	Target  string   `json:"target,omitempty"`
	Options []string `json:"options,omitempty"`
}

// Exec is a process beside the container's own.
type Exec struct {
	Process
	// Spec is the OCI process, in JSON, that Start will run. It matters while the
	// phase is Created; without it Start is answered with an error.
	Spec json.RawMessage `json:"spec,omitempty"`
}

// Stage is how far a start has come, in the steps for which the process's exit
// waits.
type Stage string

// The stages.
const (
	// Underway means that the start is not answered yet. Its request is in
	// Connections; it is not carried out again: the first Start of the process that
	// is read is answered with the result of this start. A start that has not begun,
	// because it waits for another verb, has no Start at all.
	Underway Stage = "underway"
	Replied  Stage = "replied" // answered; the daemon has yet to show that it has published the start
	Asked    Stage = "asked"   // a State has come, which may be another client's
	Settled  Stage = "settled" // the exit need not wait any more
	Refused  Stage = "refused" // the process's exit is never published
)

// Start is the latest attempt to start a process.
type Start struct {
	Stage Stage `json:"stage"`
	// Runtime is the pid of the runtime's process, a child of the shim, that
	// carries the start out; 0 once it has returned. For Underway only. A runtime
	// that has returned has either written PidFile or failed.
	Runtime int `json:"runtime,omitempty"`
	// PidFile is where the runtime writes the process's pid, for Underway only; ""
	// means where this project's shim has it: init.pid or ID.pid in the bundle.
	PidFile string `json:"pid_file,omitempty"`
	// RepliedAt and AskedAt are when those stages were reached, zero before.
	RepliedAt time.Time `json:"replied_at,omitzero"`
	AskedAt   time.Time `json:"asked_at,omitzero"`
	// Connection is the one on which the reply was sent: its place in Connections,
	// counted from 1; 0 if it is closed or not known.
	Connection int `json:"connection,omitempty"`
	// Polled says that a State of the process was asked for before the reply.
	Polled bool `json:"polled,omitempty"`
}

// Held is an exit for which no event was made yet.
type Held struct {
	ID     string `json:"id"` // the container's, or that of an exec, which may be deleted
	Pid    int    `json:"pid"`
	Status int    `json:"status"`
	// At is the time of death. Seq is its number in the order of deaths.
	At  time.Time `json:"at"`
	Seq uint64    `json:"seq,omitempty"`
	// Taken is when it began to wait for what should come before it; zero means that it
	// begins to when it is adopted.
	Taken time.Time `json:"taken,omitzero"`
}

// Deleted is the answer to Delete.
type Deleted struct {
	Pid    int       `json:"pid"`
	Status int       `json:"status"`
	At     time.Time `json:"at"`
}

// Connection is a connection of one client.
type Connection struct {
	FD FD `json:"fd"`
	// Requests are the unanswered requests, each a frame with its header of ten
	// bytes, in ascending order of their streams. They are handled as if they had
	// just come, before anything else, so a request that must not be carried out
	// twice must not be here; but see Underway.
	Requests [][]byte `json:"requests,omitempty"`
	// Partial is the beginning of a frame whose rest is still in the socket.
	Partial []byte `json:"partial,omitempty"`
	// Errors are the answers to requests that can no longer be handled.
	Errors []Error `json:"errors,omitempty"`
}

// Error answers the request on Stream.
type Error struct {
	Stream uint32 `json:"stream"`
	// Code is a gRPC status code; 0 stands for 13, Internal.
	Code int    `json:"code,omitempty"`
	Text string `json:"text"`
}
