// SPDX-License-Identifier: Apache-2.0

// Package fakedaemon plays the part of containerd that takes a shim's events, in all
// three ways in which they may come. It can refuse, hang, crash and come back.
package fakedaemon

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	grpcevents "github.com/containerd/containerd/api/services/events/v1"
	ttrpcevents "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/integration/harness/fakedaemon/publish"
)

// Daemon is the part of containerd that takes events: a gRPC service on its
// address, a ttrpc service on its address with ".ttrpc", and a binary.
type Daemon struct {
	Address string // gRPC
	Binary  string

	dir    string
	helper string
	inbox  *inbox

	mu        sync.Mutex // guards the following
	listeners []func()   // closing them makes the daemon unreachable
	runs      []publish.Record
}

// Start starts a fake daemon in dir.
func Start(dir, helperBinary string) (*Daemon, error) {
	d := &Daemon{
		Address: filepath.Join(dir, "containerd.sock"),
		Binary:  filepath.Join(dir, publish.Name),
		dir:     dir,
		helper:  helperBinary,
		inbox:   newInbox(),
	}
	return d, d.Restart()
}

// Behave sets how the next attempts to deliver an exit are taken; attempts < 0 means all
// of them.
func (d *Daemon) Behave(as Behaviour, attempts int) { d.inbox.set(as, attempts) }

// Events are the exits that were taken, in the order in which they came.
func (d *Daemon) Events() []Event {
	return slices.DeleteFunc(d.inbox.all(), func(e Event) bool { return e.Exit == nil })
}

// Of are all events of one process of a container, in the order in which they came. A v1
// shim sends exits only.
func (d *Daemon) Of(container, id string) []Event {
	return slices.DeleteFunc(d.inbox.all(), func(e Event) bool { return e.Container != container || e.ID != id })
}

// Attempts counts deliveries of exits that were tried, also those that were not taken.
func (d *Daemon) Attempts() int { return d.inbox.tried() }

// ExitsOf are the exits of one process that were taken.
func (d *Daemon) ExitsOf(id string) []Event {
	var out []Event
	for _, e := range d.Events() {
		if e.Exit.GetID() == id {
			out = append(out, e)
		}
	}
	return out
}

// Publishers are the runs of the binary.
func (d *Daemon) Publishers() []publish.Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]publish.Record(nil), d.runs...)
}

// Crash makes the daemon unreachable in every way, as after a crash: sockets
// closed and removed, the binary gone.
func (d *Daemon) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, stop := range d.listeners {
		stop()
	}
	d.listeners = nil
	for _, p := range []string{d.Address, d.Address + ".ttrpc", d.Binary, filepath.Join(d.dir, publish.Socket)} {
		_ = os.Remove(p) // some are removed by their listeners
	}
}

// OnlyBinary takes the sockets away, so that events come through the binary.
func (d *Daemon) OnlyBinary() {
	for _, p := range []string{d.Address, d.Address + ".ttrpc"} {
		_ = os.Remove(p) // it is back with Restart
	}
}

// Sockets brings them back after OnlyBinary.
func (d *Daemon) Sockets() error { return errors.Join(d.serveGRPC(), d.serveTTRPC()) }

// Rename moves the binary to another name in its directory.
func (d *Daemon) Rename(name string) {
	to := filepath.Join(d.dir, name)
	_ = os.Rename(d.Binary, to) // the check sees what comes of it
}

// Restart makes the daemon reachable again under the same names.
func (d *Daemon) Restart() error {
	if err := os.Symlink(d.helper, d.Binary); err != nil {
		return err
	}
	return errors.Join(d.serveGRPC(), d.serveTTRPC(), d.servePublish())
}

func (d *Daemon) onCrash(stop func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listeners = append(d.listeners, stop)
}

func (d *Daemon) serveGRPC() error {
	l, err := net.Listen("unix", d.Address)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	grpcevents.RegisterEventsServer(s, grpcService{inbox: d.inbox})
	go func() { _ = s.Serve(l) }() // ends with Stop
	d.onCrash(s.Stop)
	return nil
}

func (d *Daemon) serveTTRPC() error {
	l, err := net.Listen("unix", d.Address+".ttrpc")
	if err != nil {
		return err
	}
	s, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	ttrpcevents.RegisterEventsService(s, ttrpcService{d.inbox})
	go func() { _ = s.Serve(context.Background(), l) }() // ends with Close
	d.onCrash(func() { _ = s.Close() })
	return nil
}

func (d *Daemon) servePublish() error {
	l, err := net.Listen("unix", filepath.Join(d.dir, publish.Socket))
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go d.publisher(conn)
		}
	}()
	d.onCrash(func() { _ = l.Close() })
	return nil
}

// publisher answers one run of the binary.
func (d *Daemon) publisher(conn net.Conn) {
	defer conn.Close()
	var rec publish.Record
	if json.NewDecoder(conn).Decode(&rec) != nil {
		return
	}
	d.mu.Lock()
	d.runs = append(d.runs, rec)
	d.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		_, _ = conn.Read(make([]byte, 1)) // returns when the binary was killed
		close(gone)
	}()
	reply := publish.Reply{}
	if err := d.published(rec, gone); err != nil {
		reply = publish.Reply{Exit: 1, Text: err.Error()}
	}
	_ = json.NewEncoder(conn).Encode(reply)
}

func (d *Daemon) published(rec publish.Record, gone <-chan struct{}) error {
	var any anypb.Any
	if err := proto.Unmarshal(rec.Event, &any); err != nil {
		return err
	}
	e, err := decode("publish", after(rec.Args, "--topic"), after(rec.Args, "--namespace"), any.GetTypeUrl(), any.GetValue())
	if err != nil {
		return err
	}
	return d.inbox.attempt(e, gone)
}

func after(args []string, flag string) string {
	for i, a := range args {
		if a == flag && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// envelope is what both services call an event with its topic and namespace.
type envelope interface {
	GetTopic() string
	GetNamespace() string
	GetEvent() *anypb.Any
}

// take decides on an event that came by way; ctx ends with its sender.
func (b *inbox) take(ctx context.Context, way string, e envelope) (*emptypb.Empty, error) {
	event, err := decode(way, e.GetTopic(), e.GetNamespace(), e.GetEvent().GetTypeUrl(), e.GetEvent().GetValue())
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, b.attempt(event, ctx.Done())
}

type ttrpcService struct{ inbox *inbox }

func (s ttrpcService) Forward(ctx context.Context, r *ttrpcevents.ForwardRequest) (*emptypb.Empty, error) {
	return s.inbox.take(ctx, "ttrpc", r.GetEnvelope())
}

type grpcService struct {
	grpcevents.UnimplementedEventsServer
	inbox *inbox
}

func (s grpcService) Forward(ctx context.Context, r *grpcevents.ForwardRequest) (*emptypb.Empty, error) {
	return s.inbox.take(ctx, "grpc", r.GetEnvelope())
}

// published is an event whose namespace is in the request's metadata.
type published struct {
	*grpcevents.PublishRequest
	namespace string
}

func (p published) GetNamespace() string { return p.namespace }

func (s grpcService) Publish(ctx context.Context, r *grpcevents.PublishRequest) (*emptypb.Empty, error) {
	p := published{PublishRequest: r}
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get("containerd-namespace")) > 0 {
		p.namespace = md.Get("containerd-namespace")[0]
	}
	return s.inbox.take(ctx, "grpc", p)
}
