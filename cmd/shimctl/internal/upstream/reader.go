// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
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

	goroutines uint64              // where the runtime's list of them is
	returns    map[uint64][]uint64 // to where the calls return in which a goroutine has to be still, by its number

	taker     uint64 // the goroutine that waits for an exit
	service   uint64
	bundle    string // without symbolic links
	mounted   bool   // something, on its rootfs
	objects   map[string]*object
	byAddress map[uint64]*object
	streamFor map[uint64]uint32 // for ttrpc 1.2: of the request that a goroutine handles
	streamOf  map[uint64]uint32 // for ttrpc 1.2: of the encoded request at an address
	reading   map[state.FD]bool // some goroutine waits for something to read from it
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
// threads that could have made it untrue were held, as they still are. wedged says that
// calls that have begun will not go on by themselves.
func (p *Program) Prepare(pid int, dump *stackdump.Dump, wedged bool) (*Prepared, error) {
	r := &reader{Program: p, pid: pid, dump: dump, m: goheap.New(pid, p.Era, p.Text), returns: map[uint64][]uint64{},
		objects: map[string]*object{}, byAddress: map[uint64]*object{}, exits: map[int]exit{}, streamFor: map[uint64]uint32{}, report: Report{Release: p.Name}}
	if err := r.settled(wedged); err != nil {
		return nil, err
	}
	if err := r.outside(); err != nil {
		return nil, err
	}
	r.goroutines = r.m.FindGoroutines()
	// The first use of a message takes a millisecond.
	if _, err := frameOfRequest(&pending{}, &shimapi.StateRequest{}); err != nil {
		return nil, err
	}
	if p.calls {
		// These objects are as old as their requests, and nobody changes them.
		r.streamOf = r.closures()
		r.findStreams()
	}
	err := r.m.Err()
	r.m = goheap.New(pid, p.Era, p.Text) // what was read may change until the stop
	return &Prepared{r}, err
}

// Read reads the shim of the container id, whose threads are all stopped.
func (p *Prepared) Read(id string) (*Result, error) {
	r := p.r
	r.now = time.Now()
	steps := []func() error{
		r.still,
		func() error { return r.processes(id) },
		r.connections,
		r.requests,
		r.allStreams,
		r.atRest,
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

// outside reads what /proc shows. It takes longer than all else, so it is done before
// the stop, and still looks whether it has changed.
func (r *reader) outside() (err error) {
	if r.fds, err = readDescriptors(r.pid); err != nil {
		return err
	}
	if r.sockets, err = sockets(r.pid); err != nil {
		return err
	}
	if r.bundle, err = os.Readlink(r.proc("cwd")); err != nil {
		return err
	}
	if r.mounted, err = r.mountedOn(filepath.Join(r.bundle, "rootfs")); err != nil {
		return err
	}
	return r.family()
}

// family tells its children apart.
func (r *reader) family() error {
	children, err := r.children()
	if err != nil {
		return err
	}
	namespace, err := os.Readlink(r.proc("ns/mnt"))
	if err != nil {
		return err
	}
	r.living, r.zombies = map[int]bool{}, map[int]bool{}
	for _, pid := range children {
		if scan.Ended("/proc", pid) {
			r.zombies[pid] = true
			continue
		}
		r.living[pid] = true
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // it may end meanwhile
		argv := strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")
		// As go-runc calls it. A process of the container's may have such arguments, too.
		if its, err := os.Readlink(filepath.Join(dir, "ns/mnt")); err == nil && its == namespace &&
			len(argv) > 1 && argv[1] == "--root" && slices.Contains(argv, "--log") {
			r.runtimes = append(r.runtimes, &runtime{pid: pid, args: argv})
		}
	}
	return nil
}

// proc is the path of a file of the shim's in /proc.
func (r *reader) proc(name string) string { return filepath.Join("/proc", strconv.Itoa(r.pid), name) }

// children are the pids of all its children.
func (r *reader) children() (pids []int, err error) {
	lists, err := filepath.Glob(r.proc("task/*/children"))
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) { // the thread has ended, and another has them
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// settled wants every goroutine where what it holds is known: parked, and each that
// serves a connection, copies output or reaps at the place where it holds nothing. One
// that is runnable may have been handed something that is nowhere but on its stack.
func (r *reader) settled(wedged bool) error {
	for i := range r.dump.Goroutines {
		g := &r.dump.Goroutines[i]
		if len(g.Frames) == 0 {
			continue
		}
		free := harmless(g)
		if !free && !parked(g) {
			return fmt.Errorf("%w: a goroutine is at work, in %s", ErrBusy, g.Frames[0].Func)
		}
		for _, f := range g.Frames {
			switch {
			case f.Func == r.ttrpc+".(*serverConn).run" && (g.State != "select" || g.Frames[0].Func != f.Func):
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
				free = true // what wakes it is to be read, and it is held there
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
		if !free {
			r.returns[g.ID] = r.returnsOf(g)
		}
		if g.Frames[0].Func == r.Release.service+".(*Service).processExits" {
			r.taker = g.ID // its call is inlined: there is no address
		}
	}
	if r.service == 0 {
		return fmt.Errorf("%w: its service is not in the dump", ErrRefused)
	}
	return nil
}

// parked reports whether the goroutine waits for another one, or for I/O. What a dump
// shows otherwise is the state of one that does not.
func parked(g *stackdump.Goroutine) bool {
	switch g.State {
	case "idle", "runnable", "running", "syscall", "copystack", "preempted", "leaked", "dead":
		return false
	}
	return true
}

// harmless reports whether a goroutine may go on after the dump: it waits for what it is
// to read, and is held there; or it is the one that has written the dump, which is the only
// one that ran; or it hands on signals, or readiness, and holds nothing; or it opens a FIFO
// that nobody reads, for another one that waits for that, and does not go on.
func harmless(g *stackdump.Goroutine) bool {
	return g.State == "IO wait" || g.State == "running" || has(g, "os/signal.loop") || has(g, "github.com/containerd/console.(*Epoller).Wait") ||
		g.State == "syscall" && has(g, "github.com/containerd/fifo.openFifo.func")
}

// copier wants a goroutine that copies a stream to wait for what it is to read: it holds
// no byte.
func copier(g *stackdump.Goroutine) error {
	switch {
	case has(g, "internal/poll.(*FD).Write"), has(g, "github.com/containerd/console.(*EpollConsole).Write"):
		return fmt.Errorf("%w: output waits for its reader, and the part of it that the shim holds would be lost", ErrBusy)
	case g.State == "IO wait" && has(g, "internal/poll.(*FD).Read"),
		g.State == "sync.Cond.Wait" && has(g, "github.com/containerd/console.(*EpollConsole).Read"),
		g.State == "select" && g.Frames[0].Func == "github.com/containerd/fifo.(*fifo).Read": // it is not open yet
		return nil
	}
	return fmt.Errorf("%w: a stream is being copied", ErrBusy)
}

// returnsOf are the addresses to which the calls return in which the goroutine is.
func (r *reader) returnsOf(g *stackdump.Goroutine) (list []uint64) {
	for _, f := range g.Frames {
		if at := r.Text.Entry(f.Func); at != 0 && f.Offset != 0 { // else it is inlined
			list = append(list, at+f.Offset)
		}
	}
	return list
}

// still wants everything to be as it was when the dump was written, and /proc read:
// nothing has begun, gone on or ended between then and the stop. A goroutine that has not
// gone on has started and reaped no child.
func (r *reader) still() error {
	now := r.m.Goroutines(r.goroutines)
	for i := range r.dump.Goroutines {
		g := &r.dump.Goroutines[i]
		n, there := now[g.ID]
		delete(now, g.ID)
		returns, bound := r.returns[g.ID]
		if bound && (!there || !n.Parked || !r.m.Inside(n, returns)) {
			return fmt.Errorf("%w: a goroutine has gone on meanwhile, from %s", ErrBusy, g.Frames[0].Func)
		}
	}
	exits := r.m.Chan(r.m.Word(r.service + serviceExits))
	if r.taker != 0 && !slices.ContainsFunc(exits.Receivers, func(w goheap.Waiter) bool { return w.ID == r.taker }) {
		return fmt.Errorf("%w: an exit has come meanwhile", ErrBusy)
	}
	for _, n := range now {
		if !r.m.System(n) {
			return fmt.Errorf("%w: something has begun meanwhile", ErrBusy)
		}
	}
	return r.fds.unchanged(r.pid)
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

// atRest wants no runtime at work but those of starts that go on.
func (r *reader) atRest() error {
	r.runtimes = slices.DeleteFunc(r.runtimes, func(c *runtime) bool { return r.known(c.pid) })
	for _, c := range r.runtimes {
		if !c.used {
			return fmt.Errorf("%w: the runtime %d is at work: %s", ErrBusy, c.pid, strings.Join(c.args, " "))
		}
	}
	return nil
}

// known reports whether the pid is a process's of the container.
func (r *reader) known(pid int) bool {
	for _, o := range r.objects {
		if o.Pid == pid {
			return true
		}
	}
	return false
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
