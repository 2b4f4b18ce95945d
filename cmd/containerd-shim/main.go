// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim supervises one container for containerd's v1 Linux
// runtime (io.containerd.runtime.v1.linux). It is a drop-in replacement for
// the binary of that name, and for docker-containerd-shim, under containerd
// 1.0 to 1.7 and the Docker releases that bring them.
//
// It only wires the packages together: see shim, proc and reaper.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"containerd-shim.v1/internal/early"
	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/internal/stackdump"
	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc"
	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"
	"containerd-shim.v1/shim"
	"containerd-shim.v1/shim/publish"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
)

// version and revision are set by the linker.
var (
	version  = "unknown"
	revision = "unknown"
)

// shutdownTimeout bounds the removal of the container at SIGTERM. systemd gives a
// service 90 seconds to stop.
const shutdownTimeout = 30 * time.Second

// imageTimeout bounds a checkpoint and a restore, which may move hundreds of
// gigabytes to or from a slow disk. A checkpoint that is killed half-way leaves the
// container frozen.
const imageTimeout = 6 * time.Hour

// The first thread forks: see reaper.Forker. main is locked to it from the beginning.
func init() { runtime.LockOSThread() }

func main() {
	o, err := parseFlags(os.Args[1:], os.LookupEnv)
	switch {
	case err == nil && o.version:
		fmt.Printf("containerd-shim:\n  Version:  %s\n  Revision: %s\n  Go version: %s\n", version, revision, runtime.Version())
		return
	case err == nil && o.help:
		fmt.Print(usage)
		return
	case err == nil && o.adopt != "" && o.check:
		if _, err = state.ReadFile(o.adopt); err == nil {
			fmt.Println(adoptable)
		}
	case o.adopt != "" && !o.check:
		bad := err // and not fatal any more
		forkFor(func(forks *reaper.Forker) error { return adopt(o, bad, forks) })
	case err == nil:
		forkFor(func(forks *reaper.Forker) error { return run(o, forks) })
	}
	end(err)
}

// forkFor runs a shim, and forks for it on the calling thread, until it ends.
func forkFor(shim func(*reaper.Forker) error) {
	forks := reaper.NewForker()
	go func() { end(shim(forks)) }()
	forks.Run()
}

// end ends the process.
func end(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "containerd-shim: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run runs a shim that containerd has started, until it is told to end.
func run(o options, forks *reaper.Forker) error {
	p, err := newProgram(o)
	if err != nil {
		return err
	}
	if o.namespace == "" {
		return errors.New("no namespace: -namespace must be given")
	}
	listener, err := listen(o.socket)
	if err != nil {
		return err
	}
	if err := reaper.SetSubreaper(); err != nil {
		return err
	}
	p.setLog(logWait)
	p.supervise(reaper.New(forks))
	go p.sup.Run(p.env.Reaper.Subscribe())
	return p.serve(listener)
}

// program is the shim as a process.
type program struct {
	options
	bundle string
	log    atomic.Pointer[logFIFO] // set once it is open
	logs   []int                   // the descriptors of the log's FIFOs
	calls  ttrpc.UnaryServerInterceptor
	env    *proc.Env
	sup    *shim.Supervisor
	disk   disk          // where the state's file is; the serving goroutine's
	grown  chan struct{} // holds a token when the shim is to be recycled; capacity 1
	born   time.Time     // when this program took over from another; zero if it did not
}

// newProgram handles the signals that ask for a stack dump, before anything that
// could hang, and makes the spare threads. The program is complete even if there is
// an error: that of finding the bundle.
func newProgram(o options) (*program, error) {
	bundle, err := os.Getwd()
	p := &program{options: o, bundle: bundle, grown: make(chan struct{}, 1)}
	handleDumps(stackdump.NewWriter(o.stackDir, o.workdir, o.namespace, filepath.Base(bundle), version), &p.log)
	p.calls = tuneRuntime(p.giveBack)
	return p, err
}

// supervise makes the Supervisor, and starts the outbox.
func (p *program) supervise(r *reaper.Reaper) {
	monitor := reaper.NewMonitor(r, reaper.DefaultLimits(), "GODEBUG", "NOTIFY_SOCKET")
	ctx := context.Background() // until the process ends
	limits := proc.DefaultLimits()
	limits.Start = p.runtimeTimeout
	p.env = &proc.Env{
		Namespace: p.namespace, Bundle: p.bundle, WorkDir: p.workdir,
		Reaper: r, Monitor: monitor, Limits: limits, Streams: stdio.DefaultLimits(),
		NewRuntime: proc.NewRunc(proc.RuntimeConfig{
			Root:          filepath.Join(p.runtimeRoot, p.namespace),
			Dir:           p.bundle,
			SystemdCgroup: p.systemdCgroup,
			Timeout:       p.runtimeTimeout,
			ImageTimeout:  max(p.runtimeTimeout, imageTimeout),
			Monitor:       monitor,
		}),
	}
	outbox := shim.NewOutbox(publish.New(publish.Config{
		Address: p.address, Binary: p.containerdBinary, Bundle: p.bundle, Monitor: monitor,
	}))
	go outbox.Run(ctx)
	if p.debug {
		guard.Go("log what was reaped", func() { logReaped(ctx, r) })
	}
	p.sup = shim.NewSupervisor(ctx, p.env, outbox, shim.DefaultLimits)
}

// errServe is wrapped by serve's error if nobody has told the shim to end.
var errServe = errors.New("serve")

// serve answers clients, exchanges the program when it is asked to, and returns once
// a signal has ended the shim and its container, with the error of that, or listener
// has failed.
func (p *program) serve(listener net.Listener) error {
	server, err := ttrpc.NewServer(
		ttrpc.WithServerHandshaker(shim.Handshaker(p.sup)),
		ttrpc.WithUnaryServerInterceptor(p.calls),
	)
	if err != nil {
		return err
	}
	api.RegisterShimService(server, shim.NewService(p.sup))
	shim.RegisterUpgrade(server, p.sup, version+" "+revision)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(context.Background(), p.sup.Listener(listener)) }()
	logrus.WithFields(logrus.Fields{"version": version, "namespace": p.namespace, "bundle": p.bundle}).Debug("serving")
	for {
		select {
		case err := <-failed:
			return fmt.Errorf("%w: %w", errServe, err)
		case u := <-p.sup.Upgrades():
			u.Do(p.upgrade)
		case <-p.grown:
			guard.Do("recycle", p.exchangeSelf)
		case s := <-early.Ends:
			logrus.WithField("signal", s).Info("shutting down, with the container")
			return shutdown(p.sup, server)
		}
	}
}

// shutdown ends the container and then the server. Clients' calls are answered
// before their connections close, if that takes no more than a second.
func shutdown(sup *shim.Supervisor, server *ttrpc.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	err := sup.Shutdown(ctx)
	ctx, cancel = context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = server.Shutdown(ctx) // clients that stay connected are cut off by the exit
	if err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}

// logReaped logs the death of every child, the shim's own and orphans, until ctx
// ends.
func logReaped(ctx context.Context, r *reaper.Reaper) {
	sub := r.Subscribe()
	defer sub.Close()
	for {
		e, err := sub.Next(ctx)
		if err != nil {
			return
		}
		logrus.WithFields(logrus.Fields{"pid": e.Pid, "status": e.Status}).Debug("reaped")
	}
}
