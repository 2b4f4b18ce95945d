// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"

	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/faults"
	"containerd-shim.v1/integration/harness/launch"
	"containerd-shim.v1/integration/harness/wait"
)

// Options describe a Fixture. The zero value is a container that sleeps, on real
// runc, below the newest daemon.
type Options struct {
	Generation *launch.Generation // nil: containerd 1.7; a v2 shim is started in one way only
	With       *Fixture           // of a v2 shim: the daemon is that one's, and if the containers are of one group, so is the shim
	Container  Container
	Fake       []fakeruntime.Rule // not nil: the fake runtime, with these rules
	Debug      bool
	OwnSocket  bool
	Undrained  bool
	NoClient   bool // no connection is made: the shim is to end at once
	Umask      *int
	Flags, Env []string
	ID         string // nil: "c" and a number
	BundleFS   string // not empty: the bundle is a tmpfs with these options
	Bare       bool   // with Fake: no runc behind the fake runtime, containers are single processes
	Faults     *faults.Injector
}

// Fixture is one shim with its daemon, its bundle and its client.
type Fixture struct {
	client.Client
	Shim   *launch.Shim
	Daemon *fakedaemon.Daemon
	Fake   *fakeruntime.Runtime // nil on the real runtime

	ID      string
	Bundle  string
	Rootfs  string
	Workdir string
	Root    string // the effective --root of the runtime
	InitPid int    // set by MustCreate

	c       *Case
	dir     string
	root    string // what the shim is told of the runtime's --root
	opts    Options
	streams []*Stream
	gates   []*wait.Gate // of Gate: an open one that nothing refers to is closed by the garbage collector
	callers []io.Closer  // guarded by c.mu
}

// namespace is the containerd namespace of all containers.
const namespace = "shimverify"

// Fixture starts a shim. The container is not created yet.
func (c *Case) Fixture(o Options) *Fixture {
	c.building.Lock()
	defer c.building.Unlock()
	c.goOn()
	c.mu.Lock()
	n := len(c.fixtures)
	b := &Fixture{c: c, opts: o, ID: o.ID}
	c.fixtures = append(c.fixtures, b)
	c.mu.Unlock()
	if b.ID == "" {
		b.ID = "c" + strconv.Itoa(n)
	}
	b.dir = filepath.Join(c.Dir, strconv.Itoa(n))
	b.Bundle = filepath.Join(b.dir, "b")
	if c.V2 {
		b.Bundle = filepath.Join(b.dir, "b", b.ID) // a v2 shim's delete looks for it by the container's id
	}
	b.Workdir = filepath.Join(b.dir, "w", namespace, b.ID) // by which shimctl knows a shim, as containerd makes it
	b.root = filepath.Join(b.dir, "r")
	b.Root = filepath.Join(b.root, namespace)
	for _, d := range []string{b.Bundle, b.Workdir, b.root, b.path("d")} {
		c.Need(os.MkdirAll(d, 0o711), "make directory")
	}
	var err error
	if o.BundleFS != "" {
		c.Need(unix.Mount("tmpfs", b.Bundle, "tmpfs", 0, o.BundleFS), "mount the bundle's file system")
	}
	b.Rootfs, err = makeBundle(c, b.Bundle, b.ID, o.Container)
	c.Need(err, "make bundle")
	if o.With != nil {
		b.Daemon = o.With.Daemon
	} else {
		b.Daemon, err = fakedaemon.Start(b.path("d"), c.Helper)
		c.Need(err, "start fake daemon")
	}
	if o.Fake != nil {
		oci := c.Runtime
		if o.Bare {
			oci = ""
		}
		b.Fake, err = fakeruntime.New(b.path("f"), c.Helper, oci, o.Fake...)
		c.Need(err, "make fake runtime")
	}
	g := launch.Containerd1_7
	if o.Generation != nil {
		g = *o.Generation
	}
	start := launch.Start
	if c.V2 {
		start = launch.StartV2
	}
	b.Shim, err = start(c.Shim, b.launching(g))
	if c.V2 {
		c.Must(err, "launch shim") // it is the shim that forks itself
	}
	c.Need(err, "launch shim")
	if o.With != nil && b.Shim.Pid == 0 && b.Shim.Address == o.With.Shim.Address {
		b.Shim.LeaveLogs()
		b.Shim = o.With.Shim
	}
	if !o.NoClient {
		b.Client = b.Dial(g)
	}
	return b
}

// launching is how the fixture's shim is started.
func (b *Fixture) launching(g launch.Generation) launch.Options {
	return launch.Options{
		Generation: g, Namespace: namespace, ID: b.ID, Bundle: b.Bundle, Workdir: b.Workdir, RuntimeRoot: b.root,
		GRPC: b.Daemon.Address, Publisher: b.Daemon.Binary, Debug: b.opts.Debug, OwnSocket: b.opts.OwnSocket,
		Undrained: b.opts.Undrained, Umask: b.opts.Umask, StackDir: b.path("stacks"), Flags: b.opts.Flags, Env: b.opts.Env, Dir: b.c.Dir,
		Faults: b.opts.Faults, Helper: b.c.Helper, Bootstrap: b.c.bootstrap,
	}
}

// Dial makes another connection to the shim, of a daemon of that generation if it is a
// v1 shim.
func (b *Fixture) Dial(g launch.Generation) client.Client {
	ns := namespace
	var caller client.Caller
	var err error
	if g.Strict && !b.c.V2 {
		caller, err = client.DialStrict(b.Shim.Address)
	} else {
		caller, err = client.DialModern(b.Shim.Address, b.dialect())
	}
	if !g.Modern && !b.c.V2 {
		ns = ""
	}
	if _, dead := b.Shim.Exited(); err != nil && dead && b.opts.Faults != nil { // a fault may end it that early
		caller = nobody{err}
	} else {
		b.c.Must(err, "connect to the shim")
	}
	b.connected(caller)
	return client.Client{Caller: caller, Namespace: ns, Patience: client.Patience}
}

// nobody is a client of a shim that has ended before it could be connected to.
type nobody struct{ err error }

func (n nobody) Call(context.Context, string, proto.Message, proto.Message) error { return n.err }

func (n nobody) Close() error { return nil }

// dialect is how the shim is asked about the fixture's container.
func (b *Fixture) dialect() client.Dialect {
	if !b.c.V2 {
		return client.V1{}
	}
	return client.V2{Version: b.Shim.Version, Container: b.ID, Root: b.root}
}

// CleanUp runs the `delete` of a v2 shim, as a daemon does when the shim is gone, and
// returns its answer.
func (b *Fixture) CleanUp() (*taskv2.DeleteResponse, error) {
	out, err := launch.DeleteV2(b.c.Shim, b.launching(launch.Containerd1_7))
	if err != nil {
		return nil, err
	}
	answer := &taskv2.DeleteResponse{}
	return answer, proto.Unmarshal(out, answer)
}

// BeginWait sends a Wait on a connection of its own, and returns when the shim
// has read it.
func (b *Fixture) BeginWait(id string) *client.Waiting {
	w, err := client.BeginWait(b.Shim.Address, id, b.dialect())
	if w != nil {
		b.connected(w)
	}
	b.c.Must(err, "Wait of "+id)
	return w
}

// connected keeps a connection, to be closed with the fixture.
func (b *Fixture) connected(c io.Closer) {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	b.callers = append(b.callers, c)
}

func (b *Fixture) path(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}

// Path is a path in the fixture's directory, for a check's own files.
func (b *Fixture) Path(name string) string { return b.path(name) }

// endShim kills the shim, so that calls to it return.
func (b *Fixture) endShim() {
	if b.Shim != nil {
		b.Shim.Kill()
	}
	b.c.mu.Lock()
	callers := b.callers
	b.c.mu.Unlock()
	for _, c := range callers {
		_ = c.Close() // a check may have closed it
	}
}

// close ends what the fixture runs in this process; the sweep does the rest.
func (b *Fixture) close() {
	for _, s := range b.streams {
		s.Close()
	}
	for _, g := range b.gates {
		_ = g.Close()
	}
	if b.Daemon != nil {
		b.Daemon.Behave(fakedaemon.Accept, 0) // lets hanging attempts end
		b.Daemon.Crash()
	}
	if b.Fake != nil {
		b.Fake.Close()
	}
}

// Stream makes a stdio FIFO of the fixture.
func (b *Fixture) Stream(name string) *Stream {
	s, err := NewStream(b.dir, name)
	b.c.Need(err, "make FIFO")
	b.streams = append(b.streams, s)
	return s
}

// Again is another client's end of a stream.
func (b *Fixture) Again(s *Stream) *Stream {
	again := &Stream{Path: s.Path}
	b.streams = append(b.streams, again)
	return again
}

// Gate makes a gate for the container's processes; they know it as "gate:/NAME".
func (b *Fixture) Gate(name string) *wait.Gate {
	g, err := wait.NewGate(filepath.Join(b.Rootfs, name))
	b.c.Need(err, "make gate")
	b.gates = append(b.gates, g)
	return g
}

// Runtime is the runtime that the shim is told to use.
func (b *Fixture) Runtime() string {
	if b.Fake != nil {
		return b.Fake.Path
	}
	return b.c.Runtime
}

// IO names the streams of a process; "" leaves one out.
type IO struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
}

// RuncHas reports whether the runtime has state of the fixture's container.
func (b *Fixture) RuncHas() bool {
	_, err := os.Stat(filepath.Join(b.Root, b.ID))
	return err == nil
}
