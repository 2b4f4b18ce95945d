// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/reaper"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// logger is a binary:// log driver. It reads the process's output from fd 3
// and 4 and closes or writes to fd 5 when it is ready; its environment is
// CONTAINER_ID and CONTAINER_NAMESPACE. It has /dev/null as stdio: anything of
// the shim's would keep containerd from noticing the shim's death.
type logger struct {
	stdout   *os.File // the write ends
	stderr   *os.File
	path     string
	child    *reaper.Child
	limits   Limits
	gate     *gate.Gate
	stopping sync.Once
	stopped  chan struct{} // closed when stop is first called

	mu sync.Mutex
	// +checklocks:mu
	reads []*os.File // what outlive keeps open
}

// startLogger starts the logger and waits until it is ready. childEnds: the
// process writes to it directly; else the shim does, for a terminal.
func startLogger(t target, c Config, childEnds bool) (_ *logger, err error) {
	l := &logger{path: t.path, limits: c.Limits, gate: c.Gate, stopped: make(chan struct{})}
	var r, w [3]*os.File // of stdout, stderr and the ready pipe
	defer func() {
		for i := range r {
			_, _ = r[i].Close(), w[i].Close() // those that are not nil by then
		}
	}()
	shims := writeEnd
	if childEnds {
		shims = noEnd
	}
	for i, end := range []int{shims, shims, readEnd} {
		if r[i], w[i], err = pipe(end); err != nil {
			return nil, errclass.Internalf("open logger: %w", err)
		}
	}
	chown(w[0], c)
	chown(w[1], c)

	start, cancel := context.WithTimeout(context.Background(), c.Limits.Ready)
	defer cancel()
	l.child, err = c.Monitor.Start(start, reaper.Command{
		Args:  append([]string{t.path}, t.args...),
		Env:   []string{"CONTAINER_ID=" + c.Container, "CONTAINER_NAMESPACE=" + c.Namespace},
		Files: []*os.File{nil, nil, nil, r[0], r[1], w[2]},
	})
	if err != nil {
		return nil, errclass.Pathf("start logger: %w", err)
	}
	_ = w[2].Close() // so that the logger's is the last one
	if err = l.awaitReady(r[2]); err != nil {
		l.abort()
		return nil, fmt.Errorf("logger %s: %w", t.path, err)
	}
	l.stdout, l.stderr = w[0], w[1]
	l.keep([]*os.File{r[0], r[1]})
	r[0], r[1], w[0], w[1] = nil, nil, nil, nil
	return l, nil
}

// keep lets the read ends of the logger's input outlive it.
func (l *logger) keep(reads []*os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads = reads
	guard.Go("outlive the logger", l.outlive)
}

// kept returns them.
func (l *logger) kept() []*os.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*os.File(nil), l.reads...)
}

// outlive keeps the read ends open until the process is deleted and the logger has
// ended: if only the logger had them, its death would kill the process by SIGPIPE at
// its next line. After the logger's death what is written is read and dropped, or
// the process would stop when the pipes are full.
func (l *logger) outlive() {
	<-l.child.Done()
	l.dropOutput()
	<-l.stopped
	l.gate.Enter()
	defer l.gate.Leave()
	for _, f := range l.kept() {
		_ = f.Close() // nothing is written here
	}
}

// dropOutput reads and drops what the dead logger no longer reads, until stop.
func (l *logger) dropOutput() {
	for i := range l.kept() {
		select {
		case <-l.stopped:
			return
		default:
		}
		logrus.WithField("logger", l.path).Warn("the logger has ended; output is dropped")
		for errclass.Exhausted(l.drop(i)) {
			select {
			case <-l.stopped:
				return
			case <-time.After(errclass.Pause):
			}
		}
	}
}

// drop has one read end read until it is closed. It fails while there is no descriptor
// for a duplicate, or no memory to poll it.
func (l *logger) drop(i int) (err error) {
	l.gate.Enter() // descriptors are exchanged
	defer l.gate.Leave()
	f := l.kept()[i]
	var p *os.File
	control(f, func(fd int) { p, err = pollable(uintptr(fd), f.Name()) })
	if p == nil {
		return err
	}
	l.replace(i, p)
	go func() {
		for {
			if _, err := io.Copy(io.Discard, p); !errclass.Starved(err) {
				return
			}
			time.Sleep(errclass.Pause)
		}
	}()
	return nil
}

// replace exchanges a read end for a duplicate of it.
func (l *logger) replace(i int, f *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.reads[i].Close() // f is a duplicate
	l.reads[i] = f
}

// awaitReady waits for a byte, or the end, on the ready pipe. A logger that
// ends with an error instead is not ready.
func (l *logger) awaitReady(ready *os.File) error {
	if err := ready.SetReadDeadline(time.Now().Add(l.limits.Ready)); err != nil {
		return errclass.Internalf("%w", err)
	}
	var b [1]byte
	_, err := ready.Read(b[:])
	switch {
	case err == nil:
		return nil
	case err != io.EOF:
		return errclass.Internalf("not ready within %v", l.limits.Ready)
	}
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-l.child.Done():
		if e := l.child.Wait(); e.Status != 0 {
			return errclass.Internalf("exited with status %d before it was ready", e.Status)
		}
	case <-timer.C: // it closed the pipe and lives: ready
	}
	return nil
}

// stop waits for the logger to end by itself: as long as it reads, and for grace
// after that. Then it ends the logger. Only the first call counts: a failed restore
// and its Delete, or a Delete and a Destroy, both end the streams.
func (l *logger) stop(grace time.Duration) {
	l.stopping.Do(func() {
		close(l.stopped)
		l.end(grace)
	})
}

// abort ends the logger of a start that has failed, without waiting for that. Such a logger
// is not handed over, so an exchange must wait for it: abort enters the gate before it
// returns to the start.
func (l *logger) abort() {
	l.gate.Enter()
	guard.Go("stop the logger", func() {
		defer l.gate.Leave()
		l.stop(0)
	})
}

func (l *logger) end(grace time.Duration) {
	for left := l.unread(); !l.endsWithin(grace); {
		now := l.unread()
		if now >= left {
			break
		}
		left = now
	}
	_ = l.child.Signal(unix.SIGTERM) // fails only if it has ended
	if !l.endsWithin(max(grace/2, l.limits.Stubborn)) {
		_ = l.child.Signal(unix.SIGKILL) // likewise
	}
}

// endsWithin waits for the logger's end for d at the most.
func (l *logger) endsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.child.Done():
		return true
	case <-timer.C:
		return false
	}
}

// unread returns how many bytes wait for the logger.
func (l *logger) unread() (n int) {
	for _, f := range l.kept() {
		n += unread(f)
	}
	return n
}
