// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"fmt"
	"strings"
	"time"

	"containerd-shim.v1/internal/state"
)

// object is a process of the container, as the shim's memory has it.
type object struct {
	*processLayout
	at        uint64 // the address of its Init or execProcess
	exec      bool
	phaseName string // the name of its state's type
	state.Process
	status int
	exited time.Time
}

// The fields of poll.FD, to which an os.File leads through its *file, in every release
// of Go since 1.9: the state is the first, and this is the other that is read.
const (
	fdClosed = 1  // the flag in the state that says that it is closed
	fdNumber = 16 // the offset of Sysfd
)

// file returns the descriptor of the *os.File at the address, or 0 if that is nil or
// closed.
func (r *reader) file(at uint64) state.FD {
	f := r.m.Word(at)
	if f == 0 {
		return 0
	}
	inner := r.m.Word(f)
	if inner == 0 || r.m.Word(inner)&fdClosed != 0 {
		return 0
	}
	n := r.m.Int(inner + fdNumber)
	if n < 0 || n > 1<<20 {
		r.m.Fail("a file with descriptor %d", n)
	}
	return state.FD(n)
}

// time returns the time.Time at the address.
func (r *reader) time(at uint64) time.Time {
	const (
		hasMonotonic = 1 << 63
		secondShift  = 30
		toInternal   = (1884*365 + 1884/4 - 1884/100 + 1884/400) * 86400 // from 1885 to year 1
		toUnix       = (1969*365 + 1969/4 - 1969/100 + 1969/400) * 86400
	)
	wall, ext := r.m.Word(at), int64(r.m.Word(at+8))
	nano := int64(wall & (1<<secondShift - 1))
	if wall == 0 && ext == 0 {
		return time.Time{}
	}
	if wall&hasMonotonic != 0 {
		ext = toInternal + int64(wall<<1>>(secondShift+1))
	}
	return time.Unix(ext-toUnix, nano).UTC()
}

// object reads the process in the interface at the address; key is its key in the
// service's table.
func (r *reader) object(key string, iface uint64) *object {
	o := &object{at: r.m.Data(iface)}
	switch typ := r.m.Type(iface); typ {
	case r.process + ".(*Init)":
		o.processLayout = &r.init
	case r.process + ".(*execProcess)":
		o.processLayout, o.exec = &r.Release.exec, true
	default:
		r.m.Fail("process %q is a %s", key, typ)
		return o
	}
	m, at := r.m, o.at
	o.ID = m.String(at + o.id)
	if o.ID != key {
		m.Fail("process %q calls itself %q", key, o.ID)
	}
	o.phaseName = strings.TrimSuffix(strings.TrimPrefix(m.Type(at+o.state), r.process+".(*"), ")")
	// Every state but the last points back to its process.
	if o.phaseName != "deletedState" && m.Word(m.Data(at+o.state)) != at {
		m.Fail("the state of %q is another process's", key)
	}
	switch pid := at + o.pid; {
	case !o.exec || !r.safePid:
		o.Pid = m.Int(pid)
	case r.pidPointer:
		o.Pid = m.Int(m.Word(pid) + 8)
	default:
		o.Pid = m.Int(pid + 8)
	}
	if o.Pid < 0 || o.Pid > maxPid {
		m.Fail("%q has the pid %d", key, o.Pid)
	}
	o.status, o.exited = m.Int(at+o.processLayout.status), r.time(at+o.processLayout.exited)
	stdio := at + o.stdio
	o.Stdin, o.Stdout, o.Stderr, o.Terminal = m.String(stdio), m.String(stdio+16), m.String(stdio+32), m.Bool(stdio+48)
	return o
}

// maxPid is Linux's PID_MAX_LIMIT on 64 bits.
const maxPid = 1 << 22

// phase sets the phase and, if there is one, the exit.
func (r *reader) phase(o *object) error {
	switch o.phaseName {
	case "createdState", "createdCheckpointState", "execCreatedState":
		o.Phase = state.Created
	case "runningState", "execRunningState":
		o.Phase = state.Running
	case "pausedState":
		o.Phase = state.Paused
	case "stoppedState", "execStoppedState":
		o.Phase = state.Stopped
		o.Exit = &state.Exit{Status: statusOf(o.status), At: o.exited}
	case "deletedState":
		if o.exec { // v1.2.0 takes it from its table later, under the lock for which a wedged one waits
			o.Phase, o.Exit = state.Stopped, &state.Exit{Status: statusOf(o.status), At: o.exited}
			if o.Pid == 0 {
				o.Exit.Status = 255 // it was never started
			}
			return nil
		}
		return fmt.Errorf("%w: %s is being deleted", ErrRefused, o.ID)
	default:
		r.m.Fail("%q is in a %s", o.ID, o.phaseName)
	}
	if o.phaseName == "createdCheckpointState" {
		return fmt.Errorf("%w: a restore is not done yet", ErrRefused)
	}
	if e, ok := r.exits[o.Pid]; ok && o.Pid != 0 && o.Exit == nil {
		o.Phase, o.Exit = state.Stopped, &state.Exit{Status: statusOf(e.Status), At: e.At}
		r.lateExits = append(r.lateExits, o)
	}
	return nil
}

// statusOf returns n, or 255, which stands for unknown, if n is no exit status.
func statusOf(n int) int {
	if n < 0 || n > 255 {
		return 255
	}
	return n
}

// streams finds the descriptors of a process's stdio: the shim's ends of the pipes in
// the process's object, those of the clients' FIFOs and files by their paths.
func (r *reader) streams(o *object) error {
	s := &state.Streams{}
	if o.phaseName == "deletedState" { // they are closed
		o.Streams = s
		return nil
	}
	in, out, errs := state.FD(0), state.FD(0), state.FD(0)
	io := o.at + o.io
	if r.ioPointer {
		io = r.m.Word(io) // processIO begins with the IO
	}
	if io != 0 {
		const runc = "github.com/containerd/go-runc.(*"
		switch typ := r.m.Type(io); typ {
		case "", runc + "nullIO)":
		case runc + "pipeIO)":
			end := func(pipe, which uint64) state.FD {
				if p := r.m.Word(r.m.Data(io) + pipe); p != 0 {
					return r.file(p + which)
				}
				return 0
			}
			in, out, errs = end(0, 8), end(8, 0), end(16, 0) // stdin's write end, the others' read ends
		case r.process + ".(*binaryIO)":
			return fmt.Errorf("%w: %s writes to a binary:// logger", ErrRefused, o.ID)
		default:
			r.m.Fail("the streams of %q are a %s", o.ID, typ)
		}
	}
	for _, n := range []state.FD{in, out, errs} {
		if n != 0 && !r.fds.use(n, "pipe:") {
			r.m.Fail("descriptor %d of %q is no pipe of its own", n, o.ID)
		}
	}
	if typ := r.m.Type(o.at + o.console); typ != "" {
		if typ != "github.com/containerd/console.(*EpollConsole)" {
			r.m.Fail("the console of %q is a %s", o.ID, typ)
		}
		const sysfd, closed = 32, 40
		if c := r.m.Data(o.at + o.console); !r.m.Bool(c + closed) {
			s.Terminal = state.FD(r.m.Int(c + sysfd))
			if d := r.fds[s.Terminal]; d == nil {
				s.Terminal = 0 // its process has ended
			} else if !r.fds.use(s.Terminal, "/dev/p") { // /dev/ptmx, /dev/pts/ptmx
				r.m.Fail("descriptor %d of %q is no terminal", s.Terminal, o.ID)
			}
		}
	}
	if o.Terminal {
		if out = s.Terminal; out == 0 && o.Start != nil {
			return fmt.Errorf("%w: the terminal of %s is being made", ErrBusy, o.ID)
		}
	}
	for _, output := range []struct {
		path string
		from state.FD
	}{{o.Stdout, out}, {o.Stderr, errs}} {
		if output.path == "" {
			continue
		}
		d := state.Output{Path: strings.TrimPrefix(output.path, "file://"), Kind: state.FIFO, From: output.from}
		d.To = r.take(d.Path, (*descriptor).writes)
		d.Keepalive = r.take(d.Path, (*descriptor).reads)
		if !r.fifo(d) {
			d.Kind = state.File
		}
		switch {
		case d.To == 0 && d.Kind == state.File && o.Stdout == o.Stderr && (r.living[o.Pid] || o.Start != nil):
			return fmt.Errorf("%w: %s writes both of its outputs to the one file %s", ErrRefused, o.ID, d.Path)
		case d.To == 0 && o.Start == nil && r.living[o.Pid] && (d.From == s.Terminal || r.reading[d.From]):
			return fmt.Errorf("%w: %s lives, but %s is not open", ErrRefused, o.ID, d.Path)
		case d.To == 0 && (d.From == 0 || d.From == s.Terminal || !r.reading[d.From] && o.Start == nil): // it has ended
			if d := r.fds[d.From]; d != nil {
				d.used = d.n == s.Terminal
			}
		case d.To == 0 && o.Start == nil:
			return fmt.Errorf("%w: %s: %s is not open", ErrBusy, o.ID, d.Path)
		case d.To == 0: // its start has not come as far as that
			s.Outputs = append(s.Outputs, d)
		case d.From != 0 && d.From != s.Terminal && !r.reading[d.From]:
			return fmt.Errorf("%w: %s: nobody copies its output", ErrBusy, o.ID)
		default:
			s.Outputs = append(s.Outputs, d)
		}
	}
	if o.Stdin != "" {
		i := &state.Input{Path: o.Stdin, To: in}
		i.From = r.take(o.Stdin, (*descriptor).reads)
		i.Keepalive = r.take(o.Stdin, (*descriptor).writes)
		switch {
		case i.From != 0 && (i.To != 0 || s.Terminal != 0):
			s.Input = i
			o.StdinClosed = i.Keepalive == 0
		case i.To != 0 && o.Start != nil && i.From == 0: // its start has not come as far as that
			s.Input = i
		case i.To != 0:
			r.fds[i.To].used = false // the client's end is closed, and so this one may be
		}
	}
	if s.Terminal != 0 || s.Input != nil || len(s.Outputs) > 0 {
		o.Streams = s
	}
	return nil
}
