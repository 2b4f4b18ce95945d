// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/inplace"
	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/upstream"
	"containerd-shim.v1/internal/stackdump"
	"containerd-shim.v1/internal/state"
)

// Main is the child's main function: it reads a Request, in JSON, from standard input,
// writes an Outcome to standard output, after a line for the commit if it comes to that, and
// returns the exit status. There is no Outcome if it is not known how an exchange has ended, or
// if it has taken too long before.
func Main() int {
	runtime.LockOSThread()
	var req Request
	if err := json.NewDecoder(os.Stdin).Decode(&req); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 64
	}
	outcome := &Outcome{}
	switch err := req.run(outcome); {
	case errors.Is(err, inplace.ErrCommitted):
		fmt.Fprintln(os.Stderr, err)
		return 1
	case err != nil:
		outcome.Error = err.Error()
		outcome.Busy = errors.Is(err, upstream.ErrBusy) || errors.Is(err, inplace.ErrBusy)
		outcome.Refused = errors.Is(err, upstream.ErrRefused) || errors.Is(err, upstream.ErrUnknown) || errors.Is(err, inplace.ErrTooLarge)
		outcome.Denied = errors.Is(err, os.ErrPermission)
	}
	if err := json.NewEncoder(os.Stdout).Encode(outcome); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (req *Request) run(outcome *Outcome) error {
	if !inplace.Supported {
		return fmt.Errorf("%w: not on %s yet", upstream.ErrRefused, runtime.GOARCH)
	}
	program, err := upstream.Identify(req.PID)
	if err != nil {
		return err
	}
	defer program.Text.Close()
	code, err := inplace.StartCode(program.Text)
	if err != nil {
		return err
	}
	image, err := req.image()
	if err != nil {
		return err
	}
	if !scan.Alive("/proc", req.PID, req.StartTicks) {
		return inplace.ErrGone
	}
	t, err := inplace.Seize(req.PID)
	if errors.Is(err, os.ErrPermission) {
		if now, ok := scan.One("/proc", req.PID, req.StartTicks); ok && now.Tracer != 0 {
			outcome.Traced = true
			return fmt.Errorf("process %d traces it", now.Tracer)
		}
	}
	if err != nil {
		return err
	}
	defer t.Detach()
	// Should the parent be stopped, nobody else would let the shim go.
	defer giveUp(holdLimit, "it took longer than").Stop()
	defer func(from time.Time) { outcome.Held = time.Since(from) }(time.Now())
	shim := &scan.Shim{PID: req.PID, StartTicks: req.StartTicks}
	g := &gate{pid: req.PID, held: map[int]bool{}, ask: func() error { return scan.Signal("/proc", shim, unix.SIGUSR1) }}
	if outcome.Drained = req.Drain; req.Drain {
		done := func() bool { return t.Quiet() > quiet && !upstream.AtWork(req.PID) }
		err := t.Drain(drainLimit, g.client, done)
		if errors.Is(err, inplace.ErrBusy) && upstream.AtWork(req.PID) {
			return fmt.Errorf("%w: a call of the runtime is underway, and has not ended within %v", upstream.ErrBusy, drainLimit)
		}
		if err != nil {
			return err
		}
	}
	dump, err := g.dump(t)
	if err != nil {
		return err
	}
	prepared, err := program.Prepare(req.PID, dump, req.Wedged, g.held)
	if err != nil {
		return err
	}
	// Collect now, and not while the shim stands still: what parsing has left is then free
	// and enough.
	runtime.GC()
	debug.SetGCPercent(-1)
	if err := t.Stop(); err != nil {
		return err
	}
	defer func() { outcome.Stopped = time.Since(t.Stopped()) }()
	read, err := prepared.Read(req.ID)
	if err != nil {
		return err
	}
	outcome.Report = &read.Report
	tid, err := t.Forker(read.Alive)
	if err != nil {
		return err
	}
	image.Keep = read.Keep
	if err := t.Fits(image); err != nil {
		return err
	}
	if err := state.Write(filepath.Join("/proc", strconv.Itoa(req.PID), "root", req.StateFile), read.State); err != nil {
		return err
	}
	if req.Binary == "" {
		return nil
	}
	if err := t.Exec(tid, code, image, req.step); err != nil {
		return err
	}
	outcome.Swapped = true
	return nil
}

func (req *Request) step(now string) {
	if now == req.DieAt {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	if now != inplace.StepCommit {
		return
	}
	if _, err := fmt.Println(Commit); err != nil { // nobody would know
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// giveUp ends this process after the limit, which lets the shim go. why says what has taken longer.
func giveUp(limit time.Duration, why string) *time.Timer {
	return time.AfterFunc(limit, func() {
		fmt.Fprintln(os.Stderr, why, limit)
		os.Exit(1)
	})
}

// blocked are the signals that are blocked when the new program starts: all, because
// until its handlers are up their default actions would end it, except the one by which
// Go preempts a goroutine. Signals that come meanwhile wait for the handlers.
const blocked = ^uint64(0) &^ (1 << (unix.SIGURG - 1))

// image returns the new program with the arguments and the environment of the old one.
func (req *Request) image() (*inplace.Image, error) {
	dir := filepath.Join("/proc", strconv.Itoa(req.PID))
	args, err := list(filepath.Join(dir, "cmdline"))
	if err != nil {
		return nil, err
	}
	env, err := list(filepath.Join(dir, "environ"))
	if err != nil {
		return nil, err
	}
	return &inplace.Image{Path: req.Binary, Args: append(args, "-adopt", req.StateFile), Env: env, Mask: blocked}, nil
}

func list(name string) ([]string, error) {
	b, err := os.ReadFile(name)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), nil
}

// holdLimit bounds how long a shim is held in all.
const holdLimit = 8 * time.Second

// drainLimit bounds how long requests are held for the calls that have begun: several times
// what a runtime takes.
const drainLimit = time.Second

// quiet is how long no child must have ended before the dumps are asked for: one that ends
// while they are written makes the shim busy.
const quiet = 100 * time.Millisecond

// gateLimit bounds how long the threads that read, answer and reap are held for two dumps.
const gateLimit = 4 * time.Second

// dump sends SIGUSR1 and takes the goroutine dump from the write(2) that carries it.
// Before the dump was made, no thread could read any more from a client, a process or a
// FIFO, answer a client, accept a connection or reap a child, so that what the dump says of
// those stays true. That is why it takes the second dump: the first may be one for which
// somebody else has asked before. The shim makes one after the other.
func (g *gate) dump(t *inplace.Tracee) (*stackdump.Dump, error) {
	// Gate waits in wait4(2), so only the end of this process lets the shim go.
	over := giveUp(gateLimit, "the shim has not written two stack dumps within")
	err := t.Gate(g.begin, g.look)
	over.Stop()
	if err := errors.Join(err, g.err); err != nil {
		return nil, err
	}
	d, err := stackdump.Parse(g.text)
	if err != nil {
		return nil, err
	}
	if !d.Complete {
		return nil, fmt.Errorf("the stack dump is not complete: %s", d.Why)
	}
	return d, nil
}

// gate decides which threads are held, and takes the dump.
type gate struct {
	pid   int
	held  map[int]bool // the descriptors at whose read(2) a thread is held
	ask   func() error // for a dump
	begun bool         // every thread is at the gate
	first bool         // the first dump since is written
	text  []byte       // of the second one
	err   error        // of ask
}

func (g *gate) begin() error {
	g.begun = true
	return g.ask()
}

// kind returns the type of file that a descriptor of the shim refers to (S_IFMT of
// stat(2)), or 0 if it is not open.
func (g *gate) kind(fd uint64) uint32 {
	kind, err := scan.FileType(fmt.Sprintf("/proc/%d/fd/%d", g.pid, int32(fd)))
	if err != nil {
		return 0 // the call will fail
	}
	return kind
}

// client reports whether a call reads a request; ttrpc does it with read(2). New clients
// may come, and what is not from one must go on, as the master of a terminal (recvmsg(2)).
func (g *gate) client(c inplace.Call) bool {
	if c.Nr != unix.SYS_READ || g.kind(c.Args[0]) != unix.S_IFSOCK {
		return false
	}
	g.held[int(int32(c.Args[0]))] = true
	return true
}

func (g *gate) look(c inplace.Call) inplace.Verdict {
	if c.Ended { // a write(2) of the first dump
		if c.Result > 0 && !g.first { // otherwise it is written again once there is room
			g.first = true
			if g.err = g.ask(); g.err != nil {
				return inplace.Finish
			}
		}
		return inplace.Pass
	}
	fd := c.Args[0]
	switch c.Nr {
	case unix.SYS_READ, unix.SYS_READV, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_SPLICE:
		switch g.kind(fd) {
		case unix.S_IFSOCK, unix.S_IFIFO, unix.S_IFCHR: // clients, streams, terminals
			g.held[int(int32(fd))] = true
			return inplace.Hold
		}
	case unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_SENDTO, unix.SYS_SENDMSG:
		if g.kind(fd) == unix.S_IFSOCK {
			return inplace.Hold
		}
		switch {
		case c.Nr != unix.SYS_WRITE || !g.begun || !g.carries(uintptr(c.Args[1]), c.Args[2]):
		case g.first:
			return inplace.Finish
		default:
			return inplace.Watch
		}
	case unix.SYS_ACCEPT4, unix.SYS_WAIT4, unix.SYS_WAITID:
		return inplace.Hold
	}
	return inplace.Pass
}

// Bounds of a dump, in bytes.
const (
	lookAhead = 256       // logrus puts time and level before the mark
	maxDump   = 256 << 20 // 20,000 goroutines make 14 MB
)

// carries reports whether the buffer of a write(2) begins with a dump, and takes it.
func (g *gate) carries(addr uintptr, n uint64) bool {
	if n < uint64(len(stackdump.BeginMark)) || n > maxDump {
		return false
	}
	head := make([]byte, min(n, lookAhead))
	if !ptrace.Read(g.pid, head, addr) || !bytes.Contains(head, []byte(stackdump.BeginMark)) {
		return false
	}
	g.text = make([]byte, n)
	return ptrace.Read(g.pid, g.text, addr)
}
