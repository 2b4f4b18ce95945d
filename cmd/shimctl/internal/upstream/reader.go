// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"fmt"
	"slices"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/internal/stackdump"
	"containerd-shim.v1/internal/state"
)

// reader reads one shim, which in the end stands still.
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

	heldReads  map[int]bool        // the descriptors at whose read(2) a thread is held
	goroutines uint64              // the address of the runtime's list of goroutines
	returns    map[uint64][]uint64 // by number of a goroutine that must not go on: where its calls return

	taker     uint64 // the goroutine that waits for an exit
	reaping   uint64 // the goroutine that tells of exits, 0 if none does
	service   uint64 // the address of the Service
	bundle    string // without symbolic links
	mounted   bool   // something is mounted on the bundle's rootfs
	objects   map[string]*object
	byAddress map[uint64]*object
	byID      map[uint64]*stackdump.Goroutine // of dump, once it was asked for
	servedBy  map[uint64]uint64               // before Go 1.21: the goroutine that serves a handler's connection
	streamFor map[uint64]uint32               // for ttrpc 1.2: the stream of the request that a goroutine handles
	streamOf  map[uint64]uint32               // for ttrpc 1.2: the stream of the encoded request at an address
	reading   map[state.FD]bool               // a goroutine waits to read from it
	conns     []*connection
	closing   map[uint64]bool // the goroutines that serve connections whose clients are gone
	listener  state.FD
	exits     map[int]exit // see lostExits
	exitOrder []int        // the pids of exits, in the order of death
	lateExits []*object    // the processes that those exits belong to
	report    Report
}

// runtime is a call of the OCI runtime that has not returned.
type runtime struct {
	pid  int
	args []string
	used bool // for a start that the next program finishes
}

// Result is what was read of a shim.
type Result struct {
	State  *state.Shim
	Keep   []int // descriptors whose FD_CLOEXEC must be cleared
	Alive  []int // pids of living runtimes: the thread that has forked them must call execve(2)
	Report Report
}

// Prepared is a reading that lacks only what requires the shim to stand still.
type Prepared struct{ r *reader }

// Prepare does whatever can be done before the process is stopped. dump was taken while
// the threads that could have made it untrue were held, as they still must be. wedged
// says that calls that have begun will not go on by themselves. held are the descriptors at
// whose read(2) a thread was held.
func (p *Program) Prepare(pid int, dump *stackdump.Dump, wedged bool, held map[int]bool) (*Prepared, error) {
	r := &reader{Program: p, pid: pid, dump: dump, heldReads: held, m: goheap.New(pid, p.Era, p.Text), returns: map[uint64][]uint64{},
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
	r.findServers()
	if p.calls {
		// These objects were made with their requests, and nobody changes them.
		r.streamOf = r.closures()
		r.findStreams()
	}
	err := r.m.Err()
	r.m = goheap.New(pid, p.Era, p.Text) // what was read may change until the stop
	return &Prepared{r}, err
}

// Read reads the shim of the container id, whose threads must all be stopped. The error
// wraps ErrBusy or ErrRefused; the latter also for memory that does not look as it should:
// since nothing changes meanwhile, it will not another time.
func (p *Prepared) Read(id string) (*Result, error) {
	result, err := p.readAll(id)
	if errors.Is(err, goheap.ErrLayout) {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return result, err
}

func (p *Prepared) readAll(id string) (*Result, error) {
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
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return result, nil
}

// processes reads the service's table of processes, and the exits that are not in it.
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

// allStreams finds the streams of all processes.
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
