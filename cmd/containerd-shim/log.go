// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/stackdump"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// logTime is the format of times in the log.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

// logWait is how long setLog waits: the daemon waits for a start, and an exchange has other
// uses for shim.AdoptTime.
const logWait = time.Second

// setLog sends the log to the FIFO that containerd reads, shim.stdout.log in
// the work directory. If it cannot be opened the shim works without a log, for good; so
// memory and descriptors that are short are waited for, for a while.
func (p *program) setLog(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	open := func(name string) (logFIFO, error) {
		return errclass.WhileExhausted(ctx, func() (logFIFO, error) { return openLogFIFO(filepath.Join(p.workdir, name)) })
	}
	if p.debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	logrus.SetFormatter(&logrus.TextFormatter{DisableColors: true, TimestampFormat: logTime})
	logrus.SetOutput(io.Discard)
	// A daemon that restarts opens both FIFOs, and silently gives up the task if it
	// cannot (contract since containerd 1.2.7). Nothing is written to the one for
	// stderr.
	out, err := open("shim.stdout.log")
	if err == nil {
		logrus.SetOutput(out)
		p.log.Store(&out)
		p.logs = append(p.logs, out.fd)
		var other logFIFO
		if other, err = open("shim.stderr.log"); err == nil {
			p.logs = append(p.logs, other.fd)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "containerd-shim: no log: %v\n", err)
	}
}

// logFIFO is a FIFO to which a write never blocks and never fails: when it is full,
// the oldest text is dropped. It is open for reading, too, so that it does not break
// when the daemon goes away (fifo(7)), and it is never closed.
type logFIFO struct{ fd int }

func openLogFIFO(path string) (logFIFO, error) {
	if err := unix.Mkfifo(path, 0o700); err != nil && err != unix.EEXIST {
		return logFIFO{}, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	var st unix.Stat_t
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
			err = unix.EEXIST
		}
		if err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return logFIFO{}, &os.PathError{Op: "open FIFO", Path: path, Err: err}
	}
	return logFIFO{fd}, nil
}

// Write always returns len(p), nil.
func (l logFIFO) Write(p []byte) (int, error) {
	rest := p
	// The bound is reached only if somebody else fills the FIFO.
	for tries := 0; len(rest) > 0 && tries < 64; tries++ {
		n, err := unix.Write(l.fd, rest)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			oldest := make([]byte, max(4096, len(rest)))
			_, _ = unix.Read(l.fd, oldest) // if the daemon was faster, there is room as well
		case err != nil:
			return len(p), nil
		default:
			rest = rest[n:]
		}
	}
	return len(p), nil
}

// stacksRoom is the largest size of a pipe, in bytes, unless the host allows more
// (/proc/sys/fs/pipe-max-size). maxStacks is how much of a dump is sure to fit into
// it, quoted, besides what the FIFO already holds.
const (
	stacksRoom = 1 << 20
	maxStacks  = 768 << 10
)

// writeStacks writes a dump as one record, as upstream's shims do, bypassing the
// logger and its lock. It does not wait for a reader: it enlarges the FIFO, and cuts
// a dump that still does not fit. On a nil FIFO it does nothing.
func (l *logFIFO) writeStacks(text []byte) {
	if l == nil {
		return
	}
	room := maxStacks
	if _, err := unix.FcntlInt(uintptr(l.fd), unix.F_SETPIPE_SZ, stacksRoom); err != nil {
		room = 32 << 10 // half of a pipe's default size
	}
	end := stackdump.EndMark
	if len(text) > room {
		text, end = text[:room], "cut here: no place for more"
	}
	record := fmt.Appendf(nil, "time=%q level=error msg=%q pid=%d\n", time.Now().Format(logTime),
		stackdump.BeginMark+"\n"+string(text)+"\n"+end, os.Getpid())
	_, _ = l.Write(record) // never fails
}
