// SPDX-License-Identifier: Apache-2.0

// Package stdio is the streams of one process: the client's FIFOs, files or
// logger at one end, the process's pipes or terminal at the other, and what
// copies between them.
package stdio

import (
	"io"
	"os"
	"os/exec"
	"sync"

	"containerd-shim/guard"
	"containerd-shim/proc/internal/errclass"
	"containerd-shim/reaper"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// Streams is the open stdio of one process: the shim's ends of what the
// process has, the clients' FIFOs or files, and the pumps between them.
type Streams struct {
	limits Limits
	// console is set instead for a terminal.
	console *console
	log     *logger
	// exited, deleted and aborted are closed, once each, when the process has
	// exited, was deleted, or will never be.
	exited  oneShot
	deleted oneShot
	aborted oneShot
	// drained is closed when every byte of output has reached its FIFO or file.
	drained chan struct{}
	outputs sync.WaitGroup // one for each output that is not drained
	input   *input         // nil without one; set before any other goroutine sees p
	// pipes are the inodes of the child's ends: who has them as stdio is the
	// process, or its child.
	pipes map[uint64]bool

	mu sync.Mutex
	// +checklocks:mu
	inPump *pump
	// +checklocks:mu
	pumps []*relay // the outputs
	// child holds what the runtime gets as its, and so the process's, stdin,
	// stdout and stderr; closed once the runtime was started. Guarded by mu
	// once Open has returned: a Destroy may come in the middle of a start.
	child [3]*os.File
	// null is /dev/null, for the streams that the process lacks; open until
	// the start is over. Guarded as child is.
	null *os.File
}

// relay is one output with the pump that fills it.
type relay struct {
	*pump
	out *output
}

// oneShot is a channel that is closed once.
type oneShot struct {
	c    chan struct{}
	once *sync.Once
}

func newOneShot() oneShot { return oneShot{make(chan struct{}), new(sync.Once)} }
func (o oneShot) fire()   { o.once.Do(func() { close(o.c) }) }

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
}

// Open opens the streams and starts copying, before the process exists:
// what cannot be opened fails here, with nothing to undo in the container, and
// a runtime that writes more than a pipe holds is not stopped by it. It waits
// for no client.
func Open(c Config) (_ *Streams, err error) {
	p := &Streams{
		limits: c.Limits,
		exited: newOneShot(), deleted: newOneShot(), aborted: newOneShot(),
		drained: make(chan struct{}), pipes: make(map[uint64]bool),
	}
	defer func() {
		if err != nil {
			p.Abort()
		}
	}()
	if c.Stdin != "" {
		if p.input, err = openInput(c.Stdin, c.Limits); err != nil {
			return nil, err
		}
	}
	target, err := parseTarget(c.Stdout)
	if err != nil {
		return nil, err
	}
	if c.Terminal {
		err = p.openTerminal(c, target)
	} else {
		err = p.openPipes(c, target)
	}
	if err != nil {
		return nil, err
	}
	go func() {
		p.outputs.Wait()
		close(p.drained)
	}()
	return p, nil
}

// openPipes connects the three streams without a terminal.
func (p *Streams) openPipes(c Config, t target) error {
	if p.input != nil {
		shim, child, err := pipe(true)
		if err != nil {
			return errclass.Internalf("open input: %w", err)
		}
		p.child[0] = child
		p.own(child, c)
		p.startInput(c, shim, true, func() { _ = shim.Close() }) // the process sees the end
	}
	if t.scheme == schemeBinary {
		l, err := startLogger(t, c, true)
		if err != nil {
			return err
		}
		p.log, p.child[1], p.child[2] = l, l.stdout, l.stderr
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
				p.child[2] = p.child[1]
				continue
			}
			if err := p.pipeOutput(c, path, 1+i); err != nil {
				return err
			}
		}
	}
	return p.openNull()
}

func sameFile(a, b string) bool {
	if a == "" || b == "" || a == b {
		return a == b
	}
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}

func (p *Streams) pipeOutput(c Config, path string, fd int) error {
	out, err := openOutput(path, c.Limits)
	if err != nil {
		return err
	}
	shim, child, err := pipe(false)
	if err != nil {
		out.close()
		return errclass.Internalf("open output: %w", err)
	}
	p.child[fd] = child
	p.own(child, c)
	p.startOutput(newPump(shim, out.w, out.fifo), out, func() { _ = shim.Close() }) // the last holder's writes fail
	return nil
}

// HoldInput begins to copy the input. The client may come and go from then on
// without ending it, unless CloseInput was before. It may be repeated.
func (p *Streams) HoldInput() error {
	if p.input == nil {
		return nil
	}
	return p.input.hold()
}

// startInput copies from the client to dst, once HoldInput or CloseInput was
// called, until the client and the shim have closed the FIFO, or the process is
// gone. ended then closes the process's side.
func (p *Streams) startInput(c Config, dst *os.File, spliced bool, ended func()) {
	pump := newPump(p.input.r, dst, spliced)
	p.mu.Lock()
	p.inPump = pump
	p.mu.Unlock()
	guard.Go("copy input", func() {
		defer p.input.close()
		defer ended()
		select {
		case <-p.input.decided:
		case <-p.exited.c:
			return
		}
		if p.input.ended {
			p.input.awaitClient()
		}
		select {
		case <-p.exited.c: // its cut may have come before awaitClient's end
		default:
			_ = pump.run() // whatever ended it: the process or the client is gone
		}
	})
}

// startOutput copies from the process to the client until the process, and
// all that inherited its output, are gone. ended then closes the process's side.
func (p *Streams) startOutput(pump *pump, out *output, ended func()) {
	p.outputs.Add(1)
	p.mu.Lock()
	p.pumps = append(p.pumps, &relay{pump, out})
	p.mu.Unlock()
	guard.Go("copy output", func() {
		err := guard.Call("copy output", pump.run)
		guard.Do("end the output", ended)
		p.outputs.Done()
		if err != nil && !wasCut(err) {
			out.close() // its reader is gone for good, or the disk is full
			return
		}
		out.finish(p.deleted.c, p.aborted.c)
	})
}

// openNull opens what the process gets for every stream that it lacks, for
// reading and writing: a write must not fail.
func (p *Streams) openNull() (err error) {
	for _, f := range p.child {
		if f == nil && p.null == nil {
			if p.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
				return errclass.Internalf("open stdio: %w", err)
			}
		}
	}
	return nil
}

// RuntimeReturned is called when the runtime has returned and its process is known,
// or when there will be no start. It may be repeated.
func (p *Streams) RuntimeReturned() {
	_ = p.CloseAfterStart() // where go-runc has not: a terminal, a failed start; always nil
	p.mu.Lock()
	null := p.null
	p.null = nil
	p.mu.Unlock()
	if null != nil {
		_ = null.Close() // nothing was written here
	}
	if p.console != nil {
		p.console.closeSocket()
	}
}

// own notes whose pipe this is and gives it to the user that the container's
// root is mapped to. Both ends share one inode.
func (p *Streams) own(f *os.File, c Config) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) == nil {
		p.pipes[st.Ino] = true
	}
	chown(f, c)
}

func chown(f *os.File, c Config) {
	if c.UID != 0 || c.GID != 0 {
		_ = f.Chown(c.UID, c.GID) // without it the process cannot reopen /dev/stdout, no more
	}
}

// The methods below make Streams go-runc's IO and StartCloser.

// Set gives cmd the child's ends.
func (p *Streams) Set(cmd *exec.Cmd) {
	if p.console != nil {
		return // stdio comes over the console socket
	}
	p.mu.Lock()
	files := p.child
	for i, f := range files {
		if f == nil {
			files[i] = p.null
		}
	}
	p.mu.Unlock()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
}

// CloseAfterStart closes the child's ends, which the runtime has now.
func (p *Streams) CloseAfterStart() error {
	p.mu.Lock()
	files := p.child
	p.child = [3]*os.File{}
	p.mu.Unlock()
	for _, f := range files {
		if f != nil {
			_ = f.Close() // the child's end; nothing was written here
		}
	}
	return nil
}

// Close does nothing: the life of the streams is the process's, not go-runc's.
func (p *Streams) Close() error { return nil }

// Stdin is not used: the pumps are the shim's own.
func (p *Streams) Stdin() io.WriteCloser { return nil }

// Stdout is not used; see Stdin.
func (p *Streams) Stdout() io.ReadCloser { return nil }

// Stderr is not used; see Stdin.
func (p *Streams) Stderr() io.ReadCloser { return nil }

var (
	_ runc.IO          = (*Streams)(nil)
	_ runc.StartCloser = (*Streams)(nil)
)
