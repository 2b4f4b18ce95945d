// SPDX-License-Identifier: Apache-2.0

// Package stdio is the streams of one process: the client's FIFOs, files or
// logger at one end, the process's pipes or terminal at the other, and what
// copies between them.
//
// # Life
//
//	Open ──► HoldInput ──► (the runtime starts the process) ──► AwaitConsole ──► RuntimeReturned
//	     ──► Started ──► ProcessExited ──► AwaitOutput ──► ProcessDeleted
//	     ──► RuntimeOutput ──► Abort, if the start has failed
//
// CloseInput and Resize may come at any time. Whatever comes is an order to the
// goroutines of the streams, of which each has one; nothing waits for them but
// AwaitOutput, within its limits, and RuntimeOutput.
//
// # State
//
// All that an output is, is its state (see outputState), its orders, the two
// descriptors between which it copies, the FIFO's keepalive, whether a reader was
// met, and the bytes that were read and not written; an input, its descriptors,
// its keepalive, what came first of HoldInput and CloseInput, and such bytes.
package stdio

import (
	"os"
	"sync"

	"containerd-shim.v1/guard"
	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/proc/internal/errclass"
	"containerd-shim.v1/reaper"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// Streams is the open stdio of one process: the shim's ends of what the
// process has, the clients' FIFOs or files, and what copies between them.
type Streams struct {
	limits Limits
	gate   *gate.Gate // of every goroutine that copies
	// console is set instead of pipes for a terminal.
	console *console
	log     *logger
	input   *input // nil without one; set before any other goroutine sees s
	// pipes are the inodes of the child's ends: who has them as stdio is the
	// process, or its child.
	pipes map[inode]bool
	// drained is closed when no output is undrained.
	drained chan struct{}

	mu sync.Mutex
	// +checklocks:mu
	outputs []*output
	// undrained counts the outputs of which not every byte is in its FIFO or
	// file, among them a terminal that is yet to come.
	// +checklocks:mu
	undrained int
	// orders are those that all outputs have, also one that is yet to come.
	// +checklocks:mu
	orders orders
	// childFiles are what the runtime gets as its, and so the process's, stdin,
	// stdout and stderr; closed once the runtime was started. Guarded by mu
	// once Open has returned: a Destroy may come in the middle of a start.
	childFiles [3]*os.File
	// null is /dev/null, for the streams that the process lacks; open until
	// the start is over. Guarded as childFiles is.
	null *os.File
}

// Names are a process's streams as the client gave them: paths of FIFOs or
// files, or URIs. An empty name means no such stream.
type Names struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
}

// Config says what Open is to open.
type Config struct {
	Names
	UID, GID int   // owner of the pipes, for user namespaces
	Size     *Size // of the terminal; nil leaves it to the runtime
	// Container and Namespace are told to a logger, which Monitor starts.
	Container string
	Namespace string
	Monitor   *reaper.Monitor
	// NewConsoleSocket makes the socket on which the runtime sends a
	// terminal's master; nil is go-runc's, in a temporary directory.
	NewConsoleSocket func() (*runc.Socket, error)
	Limits           Limits
	// Gate is shut while the streams are to stand still; see Freeze. It may be
	// nil.
	Gate *gate.Gate
}

// Open opens the streams and starts reading, before the process exists: what
// cannot be opened fails here, with nothing to undo in the container, and a
// runtime that writes more than a pipe holds is not stopped by it. It waits for
// no client. The caller ends the streams by Abort, or by ProcessDeleted. Errors
// are InvalidArgument for what the client has named wrongly, else
// ResourceExhausted or Internal by the error number.
//
// Output is held back until Started: until then it may be the runtime's own.
func Open(c Config) (_ *Streams, err error) {
	s := &Streams{
		limits:    c.Limits,
		gate:      c.Gate,
		undrained: 1, // until all are open
		drained:   make(chan struct{}), pipes: make(map[inode]bool),
	}
	defer func() {
		s.outputDrained()
		if err != nil {
			s.Abort()
		}
	}()
	if c.Stdin != "" {
		if s.input, err = openInput(c.Stdin, c.Limits); err != nil {
			return nil, err
		}
		s.input.gate = c.Gate
	}
	target, err := parseTarget(c.Stdout)
	if err == nil && target.scheme == schemeFile {
		err = makeLogFile(target.path)
	}
	if err != nil {
		return nil, err
	}
	if c.Terminal {
		err = s.openTerminal(c, target)
	} else {
		err = s.openPipes(c, target)
	}
	return s, err
}

// openPipes connects the three streams without a terminal.
func (s *Streams) openPipes(c Config, t target) error {
	if s.input != nil {
		child, shim, err := pipe(writeEnd)
		if err != nil {
			return errclass.Internalf("open input: %w", err)
		}
		s.childFiles[0] = child
		s.own(child, c)
		s.startInput(shim)
	}
	if t.scheme == schemeBinary {
		l, err := startLogger(t, c, true)
		if err != nil {
			return err
		}
		s.log, s.childFiles[1], s.childFiles[2] = l, l.stdout, l.stderr
	} else {
		paths := [2]string{t.path, c.Stderr}
		if t.scheme == schemeFile {
			paths[1] = t.path // whatever stderr says, as containerd does
		}
		for i, path := range paths {
			if path == "" {
				continue
			}
			if i == 1 && sameFile(paths[0], path) {
				// One pipe, as for "2>&1". Two openings of one FIFO would take
				// each other for its reader, and mix up the order of the lines.
				s.childFiles[2] = s.childFiles[1]
				continue
			}
			if err := s.pipeOutput(c, path, 1+i); err != nil {
				return err
			}
		}
	}
	return s.openNull()
}

// startInput copies from the client to a pipe to the process.
func (s *Streams) startInput(pipe *os.File) {
	s.input.begin(pipe, false)
	guard.Go("copy input", func() {
		defer pipe.Close() // the process sees the end
		s.input.run()
	})
}

func sameFile(a, b string) bool {
	if a == "" || b == "" || a == b {
		return a == b
	}
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}

func (s *Streams) pipeOutput(c Config, path string, fd int) error {
	to, err := openSink(path)
	if err != nil {
		return err
	}
	shim, child, err := pipe(readEnd)
	if err != nil {
		to.close()
		return errclass.Internalf("open output: %w", err)
	}
	s.childFiles[fd] = child
	s.own(child, c)
	s.startOutput(newOutput(shim, true, to, c.Limits), func() { _ = shim.Close() }) // the last holder's writes fail
	return nil
}

// startOutput copies from the process to the client until the process, and
// all that inherited its output, are gone. ended then closes the process's end.
func (s *Streams) startOutput(o *output, ended func()) {
	o.closeSource, o.drained, o.gate = ended, s.outputDrained, s.gate
	s.mu.Lock()
	s.outputs = append(s.outputs, o)
	if o.state < waiting { // which an adopted one may be
		s.undrained++
	}
	o.order(s.orders)
	s.mu.Unlock()
	guard.Go("copy output", o.run)
}

// outputDrained is called once for each output that was counted as undrained.
func (s *Streams) outputDrained() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.undrained--; s.undrained == 0 {
		close(s.drained)
	}
}

// openNull opens what the process gets for every stream that it lacks, for
// reading and writing: a write must not fail.
func (s *Streams) openNull() (err error) {
	for _, f := range s.childFiles {
		if f == nil && s.null == nil {
			if s.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
				return errclass.Internalf("open stdio: %w", err)
			}
		}
	}
	return nil
}

// RuntimeReturned closes what only a start needs: it is called when the runtime
// has returned and its process is known, or when there will be no start. It may
// be repeated.
func (s *Streams) RuntimeReturned() {
	s.CloseChildFiles() // of a start that failed
	s.mu.Lock()
	null := s.null
	s.null = nil
	s.mu.Unlock()
	_ = null.Close() // nothing was written here; nil is harmless
	if s.console != nil {
		s.console.closeSocket()
	}
}

// own notes whose pipe this is and gives it to the user that the container's
// root is mapped to. Both ends share one inode.
func (s *Streams) own(f *os.File, c Config) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) == nil {
		s.pipes[inodeOf(&st)] = true
	}
	chown(f, c)
}

func chown(f *os.File, c Config) {
	if c.UID != 0 || c.GID != 0 {
		_ = f.Chown(c.UID, c.GID) // without it the process cannot reopen /dev/stdout, no more
	}
}

// ChildFiles returns what the process gets as its stdin, stdout and stderr, and
// so the runtime that starts it; nil for a terminal, which comes over
// ConsoleSocket. They stay the Streams' own.
func (s *Streams) ChildFiles() []*os.File {
	if s.console != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	files := s.childFiles
	for i, f := range files {
		if f == nil {
			files[i] = s.null
		}
	}
	return files[:]
}

// CloseChildFiles closes the child's ends, which the runtime has now. It may be
// repeated.
func (s *Streams) CloseChildFiles() {
	s.mu.Lock()
	files := s.childFiles
	s.childFiles = [3]*os.File{}
	s.mu.Unlock()
	for _, f := range files {
		_ = f.Close() // nothing was written here; nil is harmless
	}
}
