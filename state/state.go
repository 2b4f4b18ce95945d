// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"time"
)

// Version is that of the files that this package writes.
const Version = 1

// FD is a descriptor of the process; 0 is none, for 0, 1 and 2 are the shim's
// own stdio, which stays as it is. Every FD must be open across the execve(2):
// without FD_CLOEXEC. The adopting shim sets the flag again, and closes all
// others that it finds open.
type FD int

// Shim is the whole.
type Shim struct {
	Version int `json:"version"`
	// Writer names the program that wrote it, for people.
	Writer string `json:"writer,omitempty"`
	// Listener is the socket on which clients connect. Without one the shim
	// serves the Connections only.
	Listener FD `json:"listener,omitempty"`
	// Container is nil before Create has succeeded, and in a shim of which
	// nothing is known.
	Container *Container `json:"container,omitempty"`
	// Execs are the further processes, also those that are not started yet, or
	// dead and not deleted.
	Execs []Exec `json:"execs,omitempty"`
	// Leaving are the streams of processes that were deleted, whose output still
	// flows or waits for a reader.
	Leaving []Streams `json:"leaving,omitempty"`
	// Seq numbers the deaths that were seen so far; those to come get larger
	// numbers. It is at least the largest Seq in Held.
	Seq uint64 `json:"seq,omitempty"`
	// Held are the exits that were recorded and are in no event yet, in the
	// order of death: for each process that has an Exit, unless its event is in
	// Events or was taken. Who does not know puts it here: the daemon takes an
	// exit that it knows for nothing new.
	Held []Held `json:"held,omitempty"`
	// Told: the container's own exit is in Events, or was taken.
	Told bool `json:"told,omitempty"`
	// Events are those that the daemon has not taken yet, the oldest first: each
	// an encoded containerd.services.events.v1.Envelope.
	Events [][]byte `json:"events,omitempty"`
	// Deleted is the answer to Delete, once it has succeeded: repeated to a
	// daemon that asks again. Container is set, too.
	Deleted *Deleted `json:"deleted,omitempty"`
	// Connections are the clients'.
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
	// Phase is Created until a start has succeeded: also while one is underway,
	// see Start. A process that has died, also one whose zombie is not reaped
	// yet, need not be Stopped: without an Exit it is waited for as a child, and
	// if it is none, its status is unknown.
	Phase Phase `json:"phase"`
	// Pid is 0 before there is a process. A container that is Created has one,
	// except for a checkpoint that is not restored yet. It stays after the exit.
	Pid int `json:"pid,omitempty"`
	// Exit is set if and only if the phase is Stopped, or a start has failed.
	Exit *Exit `json:"exit,omitempty"`

	// The streams as the client has named them, for State.
	Stdin    string `json:"stdin,omitempty"`
	Stdout   string `json:"stdout,omitempty"`
	Stderr   string `json:"stderr,omitempty"`
	Terminal bool   `json:"terminal,omitempty"`

	// Size of the terminal that ResizePty asked for last; nil if it never did,
	// or if that is not known: the terminal itself keeps the size that it has.
	Size *Size `json:"size,omitempty"`
	// StdinClosed: CloseIO was called.
	StdinClosed bool `json:"stdin_closed,omitempty"`
	// Streams are nil if none are open: before the start of an exec, and when
	// all are closed.
	Streams *Streams `json:"streams,omitempty"`
	// Start is the latest start, nil if there was none. Of a process that runs
	// nil also stands for one that the daemon has published long ago.
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
	// Bundle is its directory; "" is the shim's working directory.
	Bundle string `json:"bundle,omitempty"`
	// Runtime is the name or path of the runtime's binary, as Create gave it;
	// "" is runc.
	Runtime string `json:"runtime,omitempty"`
	// Rootfs is what the shim has mounted on the bundle's rootfs, and unmounts at
	// Delete. Where the list is not known, one Mount with nothing in it stands for
	// "whatever is mounted there". Empty: the shim has mounted nothing.
	Rootfs []Mount `json:"rootfs,omitempty"`
	// Checkpoint is the image that the container was, or is to be, restored from.
	Checkpoint string `json:"checkpoint,omitempty"`
	// The options of Create. They matter for execs (owner of their pipes) and for
	// a restore that is yet to come; where they are not known, the defaults.
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
	// Spec is the OCI process, in JSON, which Start will run. It matters while
	// the phase is Created; without it a start is answered with an error.
	Spec json.RawMessage `json:"spec,omitempty"`
}

// Stage is how far a start has come, as far as the process's exit waits for it.
type Stage string

// The stages.
const (
	// Underway: not answered yet. The request is in Connections; it is not
	// carried out again but answered with what this start has come to, and so is
	// any other Start of the process until then. One that never began, because
	// something stood before it, has no Start at all.
	Underway Stage = "underway"
	Replied  Stage = "replied" // answered; the daemon has yet to show that it has published the start
	Asked    Stage = "asked"   // a State came, which may be another client's
	Settled  Stage = "settled" // nothing is waited for any more
	Refused  Stage = "refused" // its process's exit is told to nobody
)

// Start is the latest attempt to start a process.
type Start struct {
	Stage Stage `json:"stage"`
	// Runtime is the pid of the runtime that is at work for it, a child; 0 if it
	// has returned. For Underway only. A runtime that has returned has left the
	// pid in the process's pid file, or has failed.
	Runtime int `json:"runtime,omitempty"`
	// PidFile is where the runtime writes the pid, for Underway only; "" is where
	// this project's shim has it: init.pid or ID.pid in the bundle.
	PidFile string `json:"pid_file,omitempty"`
	// RepliedAt and AskedAt are when the stages were reached, zero before.
	RepliedAt time.Time `json:"replied_at,omitzero"`
	AskedAt   time.Time `json:"asked_at,omitzero"`
	// Connection is the one on which the reply went: its place in Connections,
	// counted from 1; 0 if it is closed or not known.
	Connection int `json:"connection,omitempty"`
	// Polled: a State of the process was asked for before the reply.
	Polled bool `json:"polled,omitempty"`
}

// Held is an exit of which no event was made yet.
type Held struct {
	ID     string `json:"id"` // the container's own, or an exec's, which may be deleted
	Pid    int    `json:"pid"`
	Status int    `json:"status"`
	// At is the time of death. Seq is its number in the order of deaths.
	At  time.Time `json:"at"`
	Seq uint64    `json:"seq,omitempty"`
	// Taken is since when it waits for its start; zero: since long ago.
	Taken time.Time `json:"taken,omitzero"`
}

// Deleted is the answer to Delete.
type Deleted struct {
	Pid    int       `json:"pid"`
	Status int       `json:"status"`
	At     time.Time `json:"at"`
}

// Connection is one client's.
type Connection struct {
	FD FD `json:"fd"`
	// Requests are the frames, each with its header of ten bytes, that are not
	// answered, in ascending order of their streams. They are handled as if they
	// came now, before anything else, so what must not happen twice must not be
	// here; but see Underway.
	Requests [][]byte `json:"requests,omitempty"`
	// Partial is the beginning of a frame whose rest is still in the socket.
	Partial []byte `json:"partial,omitempty"`
	// Errors are the answers to requests that cannot be handled any more.
	Errors []Error `json:"errors,omitempty"`
}

// Error answers the request on Stream.
type Error struct {
	Stream uint32 `json:"stream"`
	// Code is gRPC's; 13, Internal, if it is 0.
	Code int    `json:"code,omitempty"`
	Text string `json:"text"`
}
