// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/faults"
	"containerd-shim.v1/integration/harness/launch"
	"containerd-shim.v1/integration/harness/sweep"
	"containerd-shim.v1/integration/harness/wait"
)

// Options describe a Fixture. The zero value is a container that sleeps, on real
// runc, below the newest daemon.
type Options struct {
	Generation *launch.Generation // nil: containerd 1.7
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
	b.Workdir = filepath.Join(b.dir, "w", namespace, b.ID) // by which shimctl knows a shim, as containerd makes it
	root := filepath.Join(b.dir, "r")
	b.Root = filepath.Join(root, namespace)
	for _, d := range []string{b.Bundle, b.Workdir, root, b.path("d")} {
		c.Need(os.MkdirAll(d, 0o711), "make directory")
	}
	var err error
	if o.BundleFS != "" {
		c.Need(unix.Mount("tmpfs", b.Bundle, "tmpfs", 0, o.BundleFS), "mount the bundle's file system")
	}
	b.Rootfs, err = makeBundle(c, b.Bundle, b.ID, o.Container)
	c.Need(err, "make bundle")
	b.Daemon, err = fakedaemon.Start(b.path("d"), c.Helper)
	c.Need(err, "start fake daemon")
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
	b.Shim, err = launch.Start(c.Shim, launch.Options{
		Generation: g, Namespace: namespace, ID: b.ID, Bundle: b.Bundle, Workdir: b.Workdir, RuntimeRoot: root,
		GRPC: b.Daemon.Address, Publisher: b.Daemon.Binary, Debug: o.Debug, OwnSocket: o.OwnSocket,
		Undrained: o.Undrained, Umask: o.Umask, StackDir: b.path("stacks"), Flags: o.Flags, Env: o.Env, Dir: c.Dir,
		Faults: o.Faults, Helper: c.Helper,
	})
	c.Need(err, "launch shim")
	if !o.NoClient {
		b.Client = b.Dial(g)
	}
	return b
}

// Dial makes another connection to the shim.
func (b *Fixture) Dial(g launch.Generation) client.Client {
	dialer, ns := client.DialModern, namespace
	if g.Strict {
		dialer = client.DialStrict
	}
	if !g.Modern {
		ns = ""
	}
	caller, err := dialer(b.Shim.Address)
	b.c.Must(err, "connect to the shim")
	b.connected(caller)
	return client.Client{Caller: caller, Namespace: ns, Patience: client.Patience}
}

// BeginWait sends a Wait on a connection of its own, and returns when the shim
// has read it.
func (b *Fixture) BeginWait(id string) *client.Waiting {
	w, err := client.BeginWait(b.Shim.Address, id)
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

// Cgroup is a file of the container's cgroup in a version 1 hierarchy.
func (b *Fixture) Cgroup(hierarchy, file string) string {
	return filepath.Join("/sys/fs/cgroup", hierarchy, sweep.Cgroup(b.c.Dir), b.ID, file)
}

// LimitPids puts the shim, and what it starts from now on, into a cgroup that
// has room for spare more threads and processes than there are. A negative
// spare takes the limit away.
func (b *Fixture) LimitPids(spare int) {
	dir := filepath.Dir(b.Cgroup("pids", "")) + "-shim"
	b.c.Need(os.MkdirAll(dir, 0o755), "make a pids cgroup (version 1)")
	write := func(file, value string) {
		b.c.Need(os.WriteFile(filepath.Join(dir, file), []byte(value), 0), "set "+file)
	}
	write("cgroup.procs", strconv.Itoa(b.Shim.Pid))
	most := "max"
	if spare >= 0 {
		data, err := os.ReadFile(filepath.Join(dir, "pids.current"))
		b.c.Need(err, "read pids.current")
		n, err := strconv.Atoi(strings.TrimSpace(string(data)))
		b.c.Need(err, "read pids.current")
		most = strconv.Itoa(n + spare)
	}
	write("pids.max", most)
}
