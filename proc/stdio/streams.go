// SPDX-License-Identifier: Apache-2.0

// Package stdio opens and copies the streams of a process: the client's FIFOs, files or logger
// at one end, the process's pipes or terminal at the other, and the goroutines that
// copy between them.
//
// # Life
//
//	Open ──► HoldInput ──► (the runtime starts the process) ──► AwaitConsole ──► RuntimeReturned
//	     ──► Started ──► ProcessExited ──► AwaitOutput ──► ProcessDeleted
//	     ──► RuntimeOutput ──► Abort, if the start has failed
//
// CloseInput and Resize may be called at any time. Each stream has one goroutine, and
// every call gives it an order; only AwaitConsole, AwaitOutput, within their limits, and
// RuntimeOutput wait for the goroutines.
//
// # State
//
// The whole state of an output is its outputState, its orders, the two descriptors
// between which it copies, the FIFO's keepalive, whether a reader was met, and the bytes
// that were read but not yet written. That of an input is its descriptors, its
// keepalive, which of HoldInput and CloseInput came first, and such bytes.
package stdio

import (
	"os"
	"sync"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/reaper"

	runc "github.com/containerd/go-runc"
)

// Streams is the open stdio of one process: the shim's ends of the process's pipes or
// terminal, the clients' FIFOs or files, and the goroutines that copy between them.
type Streams struct {
	limits Limits
	gate   *gate.Gate // held by every goroutine that copies; may be nil
	// console is set instead of pipes for a terminal.
	console *console
	log     *logger
	input   *input // nil without one; set before any other goroutine sees s
	// pipes are the names of the process's pipes; see pipeAt. Whoever has them as its
	// stdio is the process, or a descendant of it.
	pipes map[string]bool
	// drained is closed once no output is undrained.
	drained chan struct{}

	mu sync.Mutex
	// +checklocks:mu
	outputs []*output
	// undrained counts the outputs whose bytes are not all in their FIFO or file,
	// including a terminal's that does not exist yet.
	// +checklocks:mu
	undrained int
	// orders are those that every output gets, even one that does not exist yet.
	// +checklocks:mu
	orders orders
	// childFiles are what the runtime, and so the process, gets as its stdin,
	// stdout and stderr. They are closed once the runtime was started. Guarded by
	// mu once Open has returned, because a Destroy may come in the middle of a
	// start.
	childFiles [3]*os.File
	// null is /dev/null, for the streams that the process lacks. It is open until
	// the start is over, and guarded like childFiles.
	null *os.File
}

// Names are a process's streams as the client has named them: paths of FIFOs or
// files, or URIs. An empty name means that there is no such stream.
type Names struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
}

// Config says what Open is to open.
type Config struct {
	Names
	UID, GID int   // owner of the pipes, for user namespaces
	Size     *Size // of the terminal; nil leaves it to the runtime
	// Container and Namespace are passed to a logger, which Monitor starts.
	Container string
	Namespace string
	Monitor   *reaper.Monitor
	// NewConsoleSocket makes the socket on which the runtime sends a terminal's
	// master; nil means go-runc's, in a temporary directory.
	NewConsoleSocket func() (*runc.Socket, error)
	Limits           Limits
	// Gate is shut while the streams must stand still. It may be nil.
	Gate *gate.Gate
}

// Open opens the streams and starts reading, before the process exists: if
// something cannot be opened, there is nothing to undo in the container, and a
// runtime that writes more than a pipe holds is not blocked. It waits for no client.
// The caller ends the streams by Abort or by ProcessDeleted. Errors are
// InvalidArgument if the client has named something that cannot be opened as such,
// otherwise ResourceExhausted or Internal, depending on the errno.
//
// Output is held back until Started: until then it may be the runtime's own.
func Open(c Config) (_ *Streams, err error) {
	s := &Streams{
		limits:    c.Limits,
		gate:      c.Gate,
		undrained: 1, // until all are open
		drained:   make(chan struct{}), pipes: make(map[string]bool),
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

// openPipes opens the three streams of a process without a terminal.
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
			paths[1] = t.path // whatever Stderr says, as in containerd
		}
		for i, path := range paths {
			if path == "" {
				continue
			}
			if i == 1 && sameFile(paths[0], path) {
				// One pipe, as for "2>&1". If the FIFO were opened twice, each
				// opening would be taken for the other's reader, and lines would
				// come out of order.
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

// startInput begins to copy from the client to the process's pipe.
func (s *Streams) startInput(pipe *os.File) {
	s.input.begin(pipe, false)
	guard.Go("copy input", func() {
		defer pipe.Close() // the process sees the end
		s.input.run(nil)
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

// startOutput begins to copy from the process to the client, until the process and
// everything that inherited its output are gone; ended then closes the process's end.
func (s *Streams) startOutput(o *output, ended func()) {
	o.closeSource, o.drained, o.gate = ended, s.outputDrained, s.gate
	s.mu.Lock()
	s.outputs = append(s.outputs, o)
	if o.state < waiting { // an adopted output may have come further
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

// openNull opens /dev/null for the streams that the process lacks, for reading and
// writing, so that no write fails.
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

// RuntimeReturned closes what only a start needs. It is called once the runtime has
// returned and its process is known, or if there will be no start. It may be called
// more than once.
func (s *Streams) RuntimeReturned() {
	s.CloseChildFiles() // still open if the start has failed
	s.mu.Lock()
	null := s.null
	s.null = nil
	s.mu.Unlock()
	_ = null.Close() // nothing was written here; nil is harmless
	if s.console != nil {
		s.console.closeSocket()
	}
}

// own notes that the pipe belongs to this process, and gives it to the user to whom
// the container's root is mapped.
func (s *Streams) own(f *os.File, c Config) {
	s.note(int(f.Fd()))
	chown(f, c)
}

// note notes that the pipe belongs to this process; 0 is none. Both of its ends have one
// name.
func (s *Streams) note(fd int) {
	if name := pipeAt(os.Getpid(), fd); fd != 0 && name != "" {
		s.pipes[name] = true
	}
}

func chown(f *os.File, c Config) {
	if c.UID != 0 || c.GID != 0 {
		_ = f.Chown(c.UID, c.GID) // if it fails, the process merely cannot reopen /dev/stdout
	}
}

// ChildFiles returns what the runtime, and so the process, gets as its stdin, stdout
// and stderr; nil for a terminal, which comes over ConsoleSocket. The caller must not
// close them.
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

// CloseChildFiles closes the child's ends once the runtime has them. It may be called
// more than once.
func (s *Streams) CloseChildFiles() {
	s.mu.Lock()
	files := s.childFiles
	s.childFiles = [3]*os.File{}
	s.mu.Unlock()
	for _, f := range files {
		_ = f.Close() // nothing was written here; nil is harmless
	}
}
