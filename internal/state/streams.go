// SPDX-License-Identifier: Apache-2.0

package state

import "time"

// Streams are the shim's ends of one process's stdio, and its descriptors of the
// clients' FIFOs and files. A stream that has ended is left out.
//
// The adopting shim makes the descriptors of pipes, FIFOs and terminals
// non-blocking. The process's own ends of its pipes, which an old shim may have
// kept open, must not be here, so that they are closed: while one is open the end
// of the output is never seen.
type Streams struct {
	// Terminal is the master of the process's terminal; 0 without a terminal,
	// and once it is closed.
	Terminal FD `json:"terminal,omitempty"`
	// Input is stdin; nil without one, and once it has ended.
	Input *Input `json:"input,omitempty"`
	// Outputs are stdout and stderr, in any order; a single one if they share a
	// pipe or the process has a terminal.
	Outputs []Output `json:"outputs,omitempty"`
	// Logger is set if the output goes to a binary:// logger.
	Logger *Logger `json:"logger,omitempty"`
	// Deleted is when the process was deleted, for Leaving; zero before.
	Deleted time.Time `json:"deleted,omitzero"`
}

// Input is copied from the client to the process.
type Input struct {
	// Path is that of the FIFO or file.
	Path string `json:"path"`
	// From is Path, open for reading. 0 if a start that is underway had yet to open
	// it: the adopting shim does so, except for a terminal.
	From FD `json:"from"`
	// Keepalive is the FIFO, open for writing, so that clients may come and go;
	// 0 after CloseIO, and for a file.
	Keepalive FD `json:"keepalive,omitempty"`
	// To is the pipe to the process; 0 for a terminal.
	To FD `json:"to,omitempty"`
	// ClosedFirst says that CloseIO came before the FIFO was open. The client may
	// still come.
	ClosedFirst bool `json:"closed_first,omitempty"`
	// Pending are bytes that were read from From but not written to To yet.
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
	// From is the process's end: a pipe, or the Terminal. 0 once it has ended:
	// then Pending is still to be written, and a FIFO is kept open until its reader
	// comes.
	From FD `json:"from,omitempty"`
	// To is the client's end, open for writing. 0 if a start that is underway had
	// yet to open Path: the adopting shim does so. From is set then.
	To FD `json:"to"`
	// Keepalive is the FIFO, open for reading, so that it does not break while no
	// client reads; 0 once it may break, and for other kinds. If there is none the
	// adopting shim opens one, unless From has ended.
	Keepalive FD `json:"keepalive,omitempty"`
	// Pending are bytes that were read from From but not written to To yet.
	Pending []byte `json:"pending,omitempty"`
	// Written is how many bytes To has taken, and Met whether a reader was there
	// when the FIFO was opened: an output that ends unread waits a while for a
	// reader that has never come. 0 and false if not known.
	Written int64 `json:"written,omitempty"`
	Met     bool  `json:"met,omitempty"`
	// HungUp says that the terminal is to be closed once all that is in it was
	// read, because its input has ended.
	HungUp bool `json:"hung_up,omitempty"`
	// Since is when From ended, Moved when a byte was last moved; zero means now.
	Since time.Time `json:"since,omitzero"`
	Moved time.Time `json:"moved,omitzero"`
}

// Logger is a binary:// log driver, a child of the shim.
type Logger struct {
	Path string `json:"path"`
	// Pid is 0 once it has ended.
	Pid int `json:"pid,omitempty"`
	// Pipes are the read ends of its input, which the shim keeps open so that the
	// death of the logger does not break the process's output.
	Pipes []FD `json:"pipes,omitempty"`
}
