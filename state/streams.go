// SPDX-License-Identifier: Apache-2.0

package state

import "time"

// Streams are the shim's ends of one process's stdio, and the clients'. Only
// what is still open is here: a stream that has ended is left out.
//
// Descriptors of pipes, FIFOs and terminals are made non-blocking by who adopts
// them, if they are not. The process's own ends of its pipes, where an old shim
// has kept them open, must not be here: they are closed, or the end of the
// output would never be seen.
type Streams struct {
	// Terminal is the master of the process's terminal; 0 without a terminal,
	// and when it is closed.
	Terminal FD `json:"terminal,omitempty"`
	// Input is stdin; nil without one, and when it has ended.
	Input *Input `json:"input,omitempty"`
	// Outputs are stdout and stderr, in any order; one for both if they share a
	// pipe or the process has a terminal.
	Outputs []Output `json:"outputs,omitempty"`
	// Logger is set if the output goes to a binary:// logger.
	Logger *Logger `json:"logger,omitempty"`
	// Deleted is when the process was deleted, for Leaving; zero before.
	Deleted time.Time `json:"deleted,omitzero"`
}

// Input is copied from the client to the process.
type Input struct {
	// Path is the FIFO's, or a file's.
	Path string `json:"path"`
	// From is open for reading on it. 0 if that was yet to come, in a start that is
	// underway: who adopts it opens Path. Not for a terminal.
	From FD `json:"from"`
	// Keepalive is open for writing on a FIFO, so that clients may come and go;
	// 0 after CloseIO, and for a file.
	Keepalive FD `json:"keepalive,omitempty"`
	// To is the pipe to the process; 0 for a terminal.
	To FD `json:"to,omitempty"`
	// ClosedFirst: CloseIO came before the FIFO was open. The client may yet
	// come.
	ClosedFirst bool `json:"closed_first,omitempty"`
	// Pending was read from From and is not written to To yet.
	Pending []byte `json:"pending,omitempty"`
}

// Kind is what the client's end of an output is.
type Kind string

// The kinds.
const (
	FIFO Kind = "fifo" // its reader may come and go
	File Kind = "file" // appended to
	Pipe Kind = "pipe" // to a binary:// logger, for a terminal
)

// Output is copied from the process to the client.
type Output struct {
	// Path is the FIFO's or file's, or the logger's binary.
	Path string `json:"path"`
	Kind Kind   `json:"kind"`
	// From is the process's end: a pipe, or the Terminal. 0 if it has ended:
	// what is Pending is still to be written, and then a FIFO is kept open until
	// its reader comes.
	From FD `json:"from,omitempty"`
	// To is the client's end, open for writing. 0 if it was yet to be opened, in a
	// start that is underway: who adopts it opens Path. From is set then.
	To FD `json:"to"`
	// Keepalive is open for reading on a FIFO, so that it does not break while no
	// client reads; 0 once that is not wanted any more, and for other kinds.
	// Where a shim has none, who adopts it opens one, unless From has ended.
	Keepalive FD `json:"keepalive,omitempty"`
	// Pending was read from From and is not written to To yet.
	Pending []byte `json:"pending,omitempty"`
	// Written is how many bytes To has taken, and Met whether a reader was there
	// when the FIFO was opened: an output that ends unread waits a while for the
	// reader that never came. Not known: 0, false.
	Written int64 `json:"written,omitempty"`
	Met     bool  `json:"met,omitempty"`
	// HungUp: the terminal is to be closed once what is in it was read, for its
	// input has ended.
	HungUp bool `json:"hung_up,omitempty"`
	// Since is when From ended, Moved when a byte was moved last; zero: now.
	Since time.Time `json:"since,omitzero"`
	Moved time.Time `json:"moved,omitzero"`
}

// Logger is a binary:// log driver, a child of the shim.
type Logger struct {
	Path string `json:"path"`
	// Pid is 0 if it has ended.
	Pid int `json:"pid,omitempty"`
	// Pipes are the read ends of its input, which the shim keeps open so that the
	// death of the logger does not break the process's output.
	Pipes []FD `json:"pipes,omitempty"`
}
