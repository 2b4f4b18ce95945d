// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/guest"
)

// Stream is the client's end of a stdio FIFO. Opening it blocks in the kernel
// until the shim opens the other end, so it is done in the background, as
// containerd's client does.
type Stream struct {
	Path string

	mu     sync.Mutex // guards the following
	file   *os.File
	data   bytes.Buffer
	ended  bool
	closed bool
}

// NewStream makes the FIFO name in dir; nobody has it open yet.
func NewStream(dir, name string) (*Stream, error) {
	s := &Stream{Path: filepath.Join(dir, name)}
	return s, syscall.Mkfifo(s.Path, 0o700)
}

// Read collects what is written to the FIFO, in the background, until its end.
func (s *Stream) Read() *Stream {
	go func() {
		f := s.open(os.O_RDONLY)
		if f == nil {
			return
		}
		buf := make([]byte, 32<<10)
		for {
			n, err := f.Read(buf)
			s.mu.Lock()
			s.data.Write(buf[:n])
			if err != nil {
				s.ended = true
				s.mu.Unlock()
				return
			}
			s.mu.Unlock()
		}
	}()
	return s
}

// OpenOnly opens the FIFO for reading, and reads nothing.
func (s *Stream) OpenOnly() *Stream {
	go s.open(os.O_RDONLY)
	return s
}

// Write opens the FIFO for writing and writes text, in the background.
func (s *Stream) Write(text string) *Stream {
	go func() {
		if f := s.open(os.O_WRONLY); f != nil {
			_, _ = f.WriteString(text) // the reader may be gone: the check sees that elsewhere
		}
	}()
	return s
}

func (s *Stream) open(mode int) *os.File {
	s.mu.Lock()
	f := s.file
	s.mu.Unlock()
	if f != nil {
		return f
	}
	f, err := os.OpenFile(s.Path, mode, 0)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = f.Close()
		return nil
	}
	s.file = f
	return f
}

// Opened reports whether both ends have been opened.
func (s *Stream) Opened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file != nil
}

// Unread is how many bytes wait in the FIFO, once the client's end is open.
func (s *Stream) Unread() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return 0
	}
	rc, err := s.file.SyscallConn()
	if err != nil {
		return 0
	}
	_ = rc.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) // fails only if closed
	return n
}

// Text is what has been read.
func (s *Stream) Text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.String()
}

// Ended reports whether the end of the FIFO has been read.
func (s *Stream) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Matches tells how the text differs from n bytes of the helper's pattern.
func (s *Stream) Matches(n int) error {
	text := s.Text()
	for i := range min(len(text), n) {
		if text[i] != guest.PatternByte(i) {
			return fmt.Errorf("byte %d of %d is wrong", i, n)
		}
	}
	if len(text) != n {
		return fmt.Errorf("%d bytes of %d arrived", len(text), n)
	}
	return nil
}

// Close closes the client's end, and lets an open that still waits return.
func (s *Stream) Close() {
	s.mu.Lock()
	s.closed = true
	f := s.file
	s.mu.Unlock()
	if f != nil {
		_ = f.Close()
		return
	}
	if both, err := os.OpenFile(s.Path, os.O_RDWR|syscall.O_NONBLOCK, 0); err == nil {
		_ = both.Close()
	}
}
