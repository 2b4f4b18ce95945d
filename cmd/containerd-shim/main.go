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
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"containerd-shim.v1/guard"
	"containerd-shim.v1/proc"
	"containerd-shim.v1/proc/stdio"
	"containerd-shim.v1/reaper"
	"containerd-shim.v1/shim"
	"containerd-shim.v1/shim/publish"
	"containerd-shim.v1/stackdump"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
)

// version and revision are set by the linker.
var (
	version  = "unknown"
	revision = "unknown"
)

// shutdownTimeout bounds the end of the container at SIGTERM. systemd gives a
// service 90 seconds.
const shutdownTimeout = 30 * time.Second

// imageTimeout bounds a checkpoint and a restore: hundreds of gigabytes over a
// slow disk. One that is killed half-way leaves the container frozen.
const imageTimeout = 6 * time.Hour

func main() {
	o, err := parseFlags(os.Args[1:], os.LookupEnv)
	switch {
	case err == nil && o.version:
		fmt.Printf("containerd-shim:\n  Version:  %s\n  Revision: %s\n  Go version: %s\n", version, revision, runtime.Version())
		return
	case err == nil && o.help:
		fmt.Print(usage)
		return
	case err == nil:
		err = run(o)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "containerd-shim: %v\n", err)
		os.Exit(1)
	}
}

func run(o options) error {
	bundle, err := os.Getwd()
	if err != nil {
		return err
	}
	// Before anything that could hang.
	var log atomic.Pointer[logFIFO] // set once it is open
	handleDumps(stackdump.NewWriter(o.stackDir, o.workdir, o.namespace, filepath.Base(bundle), version), &log)
	signals := handleSignals()
	intercept := tuneRuntime()
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
	setLog(o, &log)

	r := reaper.New()
	monitor := reaper.NewMonitor(r, reaper.DefaultLimits(), "GODEBUG", "NOTIFY_SOCKET")
	ctx := context.Background() // until the process ends
	env := &proc.Env{
		Namespace: o.namespace, Bundle: bundle, WorkDir: o.workdir,
		Reaper: r, Monitor: monitor, Limits: proc.DefaultLimits(), Streams: stdio.DefaultLimits(),
		NewRuntime: proc.NewRunc(proc.RuntimeConfig{
			Root:          filepath.Join(o.runtimeRoot, o.namespace),
			Dir:           bundle,
			SystemdCgroup: o.systemdCgroup,
			Timeout:       o.runtimeTimeout,
			ImageTimeout:  max(o.runtimeTimeout, imageTimeout),
			Monitor:       monitor,
		}),
	}
	outbox := shim.NewOutbox(publish.New(publish.Config{
		Address: o.address, Binary: o.containerdBinary, Bundle: bundle, Monitor: monitor,
	}))
	go outbox.Run(ctx)
	if o.debug {
		guard.Go("log what was reaped", func() { logReaped(ctx, r) })
	}
	sup := shim.NewSupervisor(ctx, env, outbox, shim.DefaultLimits)
	go sup.Run(r.Subscribe())
	server, err := ttrpc.NewServer(
		ttrpc.WithServerHandshaker(shim.Handshaker(sup)),
		ttrpc.WithUnaryServerInterceptor(intercept),
	)
	if err != nil {
		return err
	}
	api.RegisterShimService(server, shim.NewService(sup))
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ctx, shim.Listener(listener)) }()
	logrus.WithFields(logrus.Fields{"version": version, "namespace": o.namespace, "bundle": bundle}).Debug("serving")
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case s := <-signals:
		logrus.WithField("signal", s).Info("shutting down, with the container")
	}
	return shutdown(sup, server)
}

// shutdown ends the container and then the shim. What clients wait for is
// answered before the connections close.
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

// logReaped tells of every child that dies, the shim's own and orphans.
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
