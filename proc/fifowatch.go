// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"
	"os"

	"containerd-shim/guard"

	"golang.org/x/sys/unix"
)

// fifoWatch tells when somebody opens a FIFO or takes its name away. poll(2)
// does not: the arrival of a reader wakes no writer that polls.
type fifoWatch struct {
	f *os.File
	// changed holds a token when something has happened; capacity 1.
	changed chan struct{}
}

// watchFIFO watches the FIFO that f has open, from now on. It returns nil where
// that cannot be done: a user has 128 inotify instances by default. A variable
// for tests.
var watchFIFO = func(f *os.File) *fifoWatch {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil
	}
	// By descriptor, not by name: the name may be another file's by now. A name
	// that goes is a change of the link count, IN_ATTRIB (inotify(7)).
	cerr := rc.Control(func(fifo uintptr) {
		_, err = unix.InotifyAddWatch(fd, fmt.Sprintf("/proc/self/fd/%d", fifo), unix.IN_OPEN|unix.IN_ATTRIB|unix.IN_MOVE_SELF)
	})
	if cerr != nil || err != nil {
		_ = unix.Close(fd)
		return nil
	}
	w := &fifoWatch{f: os.NewFile(uintptr(fd), "inotify"), changed: make(chan struct{}, 1)}
	guard.Go("watch a FIFO", w.run)
	return w
}

func (w *fifoWatch) run() {
	var events [512]byte
	for {
		if _, err := w.f.Read(events[:]); err != nil {
			return // closed
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// events returns the channel; without a watch one on which nothing comes.
func (w *fifoWatch) events() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.changed
}

func (w *fifoWatch) close() {
	if w != nil {
		_ = w.f.Close() // ends run
	}
}
