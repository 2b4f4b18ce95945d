// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
	"containerd-shim.v1/stackdump"
	"containerd-shim.v1/state"
)

// reader is one reading of a shim that stands still.
type reader struct {
	*Program
	pid      int
	m        *goheap.Memory
	dump     *stackdump.Dump
	now      time.Time
	fds      descriptors
	sockets  map[string]bool
	runtimes []*runtime
	living   map[int]bool // children that are not zombies
	zombies  map[int]bool

	service   uint64
	bundle    string
	objects   map[string]*object
	byAddress map[uint64]*object
	waiters   map[uint64]goheap.Waiter // at processes' exits, by goroutine
	streamOf  map[uint64]uint32        // for ttrpc 1.2: of the encoded request at an address
	reading   map[state.FD]bool        // some goroutine waits for something to read from it
	conns     []*connection
	listener  state.FD
	exits     map[int]exit
	exitOrder []int
	lateExits []*object
	report    Report
}

// runtime is a living call of the OCI runtime.
type runtime struct {
	pid  int
	args []string
	used bool // it is a start that goes on
}

// Result is what a shim is.
type Result struct {
	State  *state.Shim
	Keep   []int // descriptors whose FD_CLOEXEC is to be cleared
	Alive  []int // living runtimes, for whose sake their thread must execute
	Report Report
}

// Prepared is a reading that has everything but what needs a shim that stands still.
type Prepared struct{ r *reader }

// Prepare does what can be done before the process is stopped. dump was taken while
// threads that could have made it untrue were held, as they still are.
func (p *Program) Prepare(pid int, dump *stackdump.Dump) (*Prepared, error) {
	r := &reader{Program: p, pid: pid, dump: dump, m: goheap.New(pid, p.Era, p.Text),
		objects: map[string]*object{}, byAddress: map[uint64]*object{}, exits: map[int]exit{}, waiters: map[uint64]goheap.Waiter{}, report: Report{Release: p.Name}}
	if p.calls {
		// These objects are as old as their requests, and nobody changes them.
		r.streamOf = r.closures()
	}
	err := r.m.Err()
	if err == nil { // nobody accepts a connection meanwhile
		r.sockets, err = sockets(pid)
	}
	r.m = goheap.New(pid, p.Era, p.Text) // what was read may change until the stop
	return &Prepared{r}, err
}

// Read reads the shim of the container id, whose threads are all stopped. wedged says
// that calls that have begun will not go on by themselves.
func (p *Prepared) Read(id string, wedged bool) (*Result, error) {
	r := p.r
	r.now = time.Now()
	if err := r.outside(); err != nil {
		return nil, err
	}
	steps := []func() error{
		func() error { return r.settled(wedged) },
		func() error { return r.processes(id) },
		r.connections,
		r.requests,
		r.allStreams,
		func() error {
			for _, c := range r.runtimes {
				if !c.used {
					return fmt.Errorf("%w: the runtime %d is at work: %s", ErrBusy, c.pid, strings.Join(c.args, " "))
				}
			}
			return nil
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
		if err := r.m.Err(); err != nil {
			return nil, err
		}
	}
	s, err := r.state()
	if err != nil {
		return nil, err
	}
	result := &Result{State: s, Keep: r.fds.kept(s), Report: r.report}
	for _, c := range r.runtimes {
		result.Alive = append(result.Alive, c.pid)
	}
	return result, s.Check()
}

// outside reads what /proc shows.
func (r *reader) outside() (err error) {
	if r.fds, err = readDescriptors(r.pid); err != nil {
		return err
	}
	if r.bundle, err = os.Readlink(filepath.Join("/proc", strconv.Itoa(r.pid), "cwd")); err != nil {
		return err
	}
	return r.children()
}

func (r *reader) children() error {
	r.living, r.zombies = map[int]bool{}, map[int]bool{}
	lists, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(r.pid), "task/*/children"))
	if err != nil {
		return err
	}
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			return err
		}
		for _, f := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				return err
			}
			dir := filepath.Join("/proc", f)
			args, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // empty for a zombie
			if len(args) == 0 {
				r.zombies[pid] = true
				continue
			}
			r.living[pid] = true
			argv := strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")
			if slices.Contains(argv, "--root") && slices.Contains(argv, "--log") {
				r.runtimes = append(r.runtimes, &runtime{pid: pid, args: argv})
			}
		}
	}
	return nil
}

// settled wants every goroutine where what it holds is known: those that serve
// connections, those that copy output, the one that reaps.
func (r *reader) settled(wedged bool) error {
	for i := range r.dump.Goroutines {
		g := &r.dump.Goroutines[i]
		if len(g.Frames) == 0 {
			continue
		}
		top := g.Frames[0].Func
		for _, f := range g.Frames {
			switch {
			case f.Func == r.ttrpc+".(*serverConn).run" && (g.State != "select" || top != f.Func):
				return fmt.Errorf("%w: a response is being written", ErrBusy)
			case strings.HasSuffix(f.Func, ".Reap") && g.State != "chan send":
				return fmt.Errorf("%w: children are being reaped", ErrBusy)
			case strings.HasSuffix(f.Func, ".(*Monitor).notify.func1"):
				return fmt.Errorf("%w: exits are being told", ErrBusy)
			case strings.HasSuffix(f.Func, ".(*Service).checkProcesses") && !wedged:
				return fmt.Errorf("%w: an exit is being dealt with", ErrBusy)
			case strings.Contains(f.Func, ".copyPipes.") || strings.Contains(f.Func, ".CopyConsole."):
				if err := copier(g); err != nil {
					return err
				}
			case strings.HasPrefix(f.Func, "github.com/containerd/go-runc.(*Runc).") && !wedged:
				return fmt.Errorf("%w: a call of the runtime is underway", ErrBusy)
			case strings.HasPrefix(f.Func, "syscall.forkExec"):
				return fmt.Errorf("%w: a child is being started", ErrBusy)
			}
			if strings.HasPrefix(f.Func, r.Release.service+".(*Service).forward") {
				if a := words(f.Args); len(a) > 0 && exact(a[0]) {
					r.service = value(a[0])
				}
			}
		}
	}
	if r.service == 0 {
		return fmt.Errorf("%w: its service is not in the dump", ErrRefused)
	}
	return nil
}

// copier wants a goroutine that copies a stream to be about to read: it holds no byte.
func copier(g *stackdump.Goroutine) error {
	switch {
	case has(g, "internal/poll.(*FD).Write"), has(g, "github.com/containerd/console.(*EpollConsole).Write"):
		return fmt.Errorf("%w: output waits for its reader, and the part of it that the shim holds would be lost", ErrBusy)
	case has(g, "internal/poll.(*FD).Read"), has(g, "github.com/containerd/console.(*EpollConsole).Read"), has(g, "github.com/containerd/fifo.(*fifo).Read"):
		return nil
	}
	return fmt.Errorf("%w: a stream is being copied", ErrBusy)
}

// processes reads the service's table, and what is known of the dead.
func (r *reader) processes(id string) error {
	if got := r.m.String(r.service + serviceID); got != id {
		if got == "" && r.m.Err() == nil {
			return fmt.Errorf("%w: it has no container yet", ErrBusy)
		}
		r.m.Fail("it calls its container %q, its arguments %q", got, id)
		return nil
	}
	r.lostExits()
	for _, e := range r.m.Map(r.m.Word(r.service + serviceProcesses)) {
		o := r.object(e.Key, e.Elem)
		if r.m.Err() != nil {
			return nil
		}
		r.objects[o.ID], r.byAddress[o.at] = o, o
	}
	init := r.objects[id]
	if init == nil || init.exec {
		return fmt.Errorf("%w: its container is not in its table", ErrRefused)
	}
	for _, o := range r.objects {
		if o.exec && r.m.Word(o.at+o.parent) != init.at {
			r.m.Fail("exec %q has another parent", o.ID)
		}
		if err := r.phase(o); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) allStreams() error {
	r.reading = map[state.FD]bool{}
	for i := range r.dump.Goroutines {
		if f := frameOf(&r.dump.Goroutines[i], "internal/poll.(*FD).Read"); f != nil {
			if a := words(f.Args); len(a) > 0 && exact(a[0]) {
				r.reading[state.FD(r.m.Int(value(a[0])+fdNumber))] = true
			}
		}
	}
	for _, id := range r.sortedIDs() {
		if err := r.streams(r.objects[id]); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) sortedIDs() []string {
	ids := make([]string, 0, len(r.objects))
	for id := range r.objects {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// fifos reports whether the path is a FIFO, or is gone as only one would be.
func (r *reader) fifos(path string) bool {
	info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(r.pid), "root", path))
	return err != nil || info.Mode()&os.ModeNamedPipe != 0
}

// closures finds, for ttrpc 1.2, the stream of each encoded request: the closure that
// handles one has the request and the closure that responds, and that has the stream.
func (r *reader) closures() map[uint64]uint32 {
	entry := r.Text.Entry(r.ttrpc + ".(*serviceSet).handle.func1")
	found := map[uint64]uint32{}
	areas, err := ptrace.Resident(r.pid)
	if err != nil || entry == 0 {
		r.m.Fail("closures: %v", err)
		return nil
	}
	for _, a := range areas {
		b := make([]byte, a.End-a.Start)
		if !ptrace.Read(r.pid, b, a.Start) {
			continue
		}
		for i := 0; i+56 <= len(b); i += 8 {
			if binary.LittleEndian.Uint64(b[i:]) != entry {
				continue
			}
			r.m.Try(func() {
				const request, respond, streamID, service, payload = 24, 48, 16, 40, 72
				req := binary.LittleEndian.Uint64(b[i+request:])
				if r.m.String(req+service) == shimService {
					found[r.m.Word(req+payload)] = r.m.Uint32(binary.LittleEndian.Uint64(b[i+respond:]) + streamID)
				}
			})
		}
	}
	return found
}
