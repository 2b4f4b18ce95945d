// SPDX-License-Identifier: Apache-2.0

// Command v1.1.2 is a small main over the unmodified shim packages of
// containerd v1.1.2 (linux/shim, linux/proc, reaper), the release that
// Docker 18.06 shipped.
//
// The main of that release does not build from modules: it calls a ttrpc of a
// commit that was never released. This one keeps what the reaper's behaviour
// depends on: the signal channel of 32, one goroutine that reaps, GOMAXPROCS
// of 2, the subreaper flag, `containerd publish` run under the same reaper,
// and the stack dump that goes to standard error only.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containerd/containerd/events"
	"github.com/containerd/containerd/linux/proc"
	"github.com/containerd/containerd/linux/shim"
	shimapi "github.com/containerd/containerd/linux/shim/v1"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/reaper"
	runc "github.com/containerd/go-runc"
	"github.com/containerd/typeurl"
	ptypes "github.com/gogo/protobuf/types"
	"github.com/sirupsen/logrus"
	"github.com/stevvooe/ttrpc"
	"golang.org/x/sys/unix"
)

// inheritedListener is the descriptor on which containerd hands over the
// listening socket.
const inheritedListener = 3

// options are the flags of the release.
type options struct {
	debug, systemdCgroup                       bool
	namespace, socket, address, workdir        string
	runtimeRoot, criu, publisherBinary, bundle string
}

func parse() (o options) {
	flag.BoolVar(&o.debug, "debug", false, "log at debug level")
	flag.StringVar(&o.namespace, "namespace", "", "containerd namespace")
	flag.StringVar(&o.socket, "socket", "", "abstract socket to listen on instead of descriptor 3")
	flag.StringVar(&o.address, "address", "", "gRPC address of containerd")
	flag.StringVar(&o.workdir, "workdir", "", "directory for large temporary files")
	flag.StringVar(&o.runtimeRoot, "runtime-root", proc.RuncRoot, "root directory of the OCI runtime")
	flag.StringVar(&o.criu, "criu", "", "path of criu")
	flag.BoolVar(&o.systemdCgroup, "systemd-cgroup", false, "let the runtime use systemd cgroups")
	flag.StringVar(&o.publisherBinary, "containerd-binary", "containerd", "binary whose publish command takes the events")
	flag.Parse()
	return o
}

func main() {
	o := parse()
	debug.SetGCPercent(40)
	go func() {
		for range time.Tick(30 * time.Second) {
			debug.FreeOSMemory()
		}
	}()
	if o.debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2)
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "containerd-shim:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGCHLD, unix.SIGPIPE)
	runc.Monitor = reaper.Default
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	dump := make(chan os.Signal, 32)
	signal.Notify(dump, unix.SIGUSR1)

	var err error
	if o.bundle, err = os.Getwd(); err != nil {
		return err
	}
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser()))
	if err != nil {
		return fmt.Errorf("new ttrpc server: %w", err)
	}
	service, err := shim.NewService(shim.Config{
		Path:          o.bundle,
		Namespace:     o.namespace,
		WorkDir:       o.workdir,
		Criu:          o.criu,
		SystemdCgroup: o.systemdCgroup,
		RuntimeRoot:   o.runtimeRoot,
	}, &publisher{binary: o.publisherBinary, address: o.address})
	if err != nil {
		return err
	}
	shimapi.RegisterShimService(server, service)
	if err := serve(server, o.socket); err != nil {
		return err
	}
	logger := logrus.WithFields(logrus.Fields{"pid": os.Getpid(), "path": o.bundle, "namespace": o.namespace})
	go func() {
		for range dump {
			dumpStacks(logger)
		}
	}()
	return loop(logger, signals, server, service)
}

// serve answers on the inherited listener, or on an abstract socket.
func serve(server *ttrpc.Server, socket string) error {
	var l net.Listener
	var err error
	if socket == "" {
		l, err = net.FileListener(os.NewFile(inheritedListener, "socket"))
	} else {
		l, err = net.Listen("unix", "\x00"+socket)
	}
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	go func() {
		defer l.Close()
		if err := server.Serve(context.Background(), l); err != nil && !strings.Contains(err.Error(), "closed network connection") {
			logrus.WithError(err).Fatal("containerd-shim: ttrpc server failed")
		}
	}()
	return nil
}

// loop reaps on the main goroutine, as the release does.
func loop(logger *logrus.Entry, signals chan os.Signal, server *ttrpc.Server, service *shim.Service) error {
	done := make(chan struct{})
	terminating := false
	for {
		select {
		case <-done:
			return nil
		case s := <-signals:
			switch s {
			case unix.SIGCHLD:
				if err := reaper.Reap(); err != nil {
					logger.WithError(err).Error("reap exit status")
				}
			case unix.SIGTERM, unix.SIGINT:
				if terminating {
					continue
				}
				terminating = true
				go func() {
					defer close(done)
					terminate(logger, server, service)
				}()
			}
		}
	}
}

// terminate kills what is left of the container.
func terminate(logger *logrus.Entry, server *ttrpc.Server, service *shim.Service) {
	ctx := context.Background()
	if err := server.Shutdown(ctx); err != nil {
		logger.WithError(err).Error("shut down server")
	}
	if _, err := service.Kill(ctx, &shimapi.KillRequest{Signal: uint32(unix.SIGKILL), All: true}); err != nil {
		logger.WithError(err).Error("kill container")
	}
	if _, err := service.Delete(ctx, &ptypes.Empty{}); err != nil {
		logger.WithError(err).Error("delete container")
	}
}

// publisher runs `containerd publish`, once for each event.
type publisher struct{ binary, address string }

// Publish implements events.Publisher.
func (p *publisher) Publish(ctx context.Context, topic string, event events.Event) error {
	ns, _ := namespaces.Namespace(ctx)
	encoded, err := typeurl.MarshalAny(event)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	data, err := encoded.Marshal()
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	cmd := exec.CommandContext(ctx, p.binary, "--address", p.address, "publish", "--topic", topic, "--namespace", ns)
	cmd.Stdin = bytes.NewReader(data)
	exits, err := reaper.Default.Start(cmd)
	if err != nil {
		return fmt.Errorf("start %s publish: %w", p.binary, err)
	}
	status, err := reaper.Default.Wait(cmd, exits)
	if err != nil {
		return fmt.Errorf("wait for %s publish: %w", p.binary, err)
	}
	if status != 0 {
		return fmt.Errorf("%s publish: exit status %d", p.binary, status)
	}
	return nil
}
