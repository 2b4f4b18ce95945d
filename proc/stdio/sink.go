// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"io/fs"
	"os"

	"containerd-shim.v1/internal/errclass"

	"golang.org/x/sys/unix"
)

// sinkKind says how the client's end of an output behaves.
type sinkKind int

const (
	isFIFO sinkKind = iota // its reader may come and go
	isFile                 // appended to; never waits, but may be full
	isPipe                 // to a logger, which the package itself keeps open
)

// sink is the client's end of stdout, stderr or a terminal.
type sink struct {
	path string
	kind sinkKind
	// w is written to; non-blocking and known to the poller but for a file.
	w *os.File
	// seen: a reader was there when the FIFO was opened.
	seen bool

	// keepalive is a read end of the FIFO, -1 without. With it, a client that
	// goes away breaks nothing: the output waits in the FIFO, and the process
	// with it, until a client comes back. containerd and dockerd rely on that
	// across restarts.
	keepalive int
}

// openSink opens path without waiting for a reader: no client can hold up the shim.
// It fails if path does not exist or cannot be written.
func openSink(path string) (*sink, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, errclass.Pathf("open output: %w", err)
	}
	switch mode := st.Mode(); {
	case mode.IsDir():
		return nil, errclass.Invalidf("open output: %s is a directory", path)
	case mode&fs.ModeSocket != 0:
		return nil, errclass.Invalidf("open output: %s is a socket", path)
	case mode&fs.ModeNamedPipe == 0:
		w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return nil, errclass.Pathf("open output: %w", err)
		}
		return &sink{path: path, kind: isFile, w: w, keepalive: -1}, nil
	}
	s := &sink{path: path, kind: isFIFO}
	// Without a reader, opening the write end alone fails with ENXIO (fifo(7)).
	w, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return nil, errclass.Pathf("open output: %w", err)
	}
	s.seen = err == nil
	if s.keepalive, err = unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		_ = w.Close() // nil is harmless
		return nil, errclass.Pathf("open output: %w", &fs.PathError{Op: "open", Path: path, Err: err})
	}
	if w == nil {
		if w, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
			s.closeKeepalive()
			return nil, errclass.Pathf("open output: %w", err)
		}
	}
	s.w = w
	if err := inPoller(w); err != nil {
		s.close()
		return nil, errclass.Pathf("open output: %w", err)
	}
	return s, nil
}

// kept reports whether the shim itself keeps the client's end from breaking.
func (s *sink) kept() bool { return s.keepalive >= 0 || s.kind == isFile }

// closeKeepalive closes the shim's read end. From then on the FIFO breaks when
// no client reads it.
func (s *sink) closeKeepalive() {
	if s.keepalive >= 0 {
		_ = unix.Close(s.keepalive)
		s.keepalive = -1
	}
}

// hasReader reports whether a client has the FIFO open, once keepalive is
// closed: a pipe's write end polls POLLERR when there is no read end (pipe(7)).
func (s *sink) hasReader() bool {
	reader := false
	control(s.w, func(fd int) { reader = pollNow(fd, 0)&unix.POLLERR == 0 })
	return reader
}

// unread returns how many bytes wait in the FIFO.
func (s *sink) unread() int { return unread(s.w) }

// abandoned reports whether path no longer leads to this FIFO, so that no
// client can come any more.
func (s *sink) abandoned() bool {
	now, err := os.Stat(s.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	then, err := s.w.Stat()
	return err == nil && !os.SameFile(now, then)
}

// close closes the client's end.
func (s *sink) close() {
	s.closeKeepalive()
	_ = s.w.Close() // nothing was buffered in the process
}
