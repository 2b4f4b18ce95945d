// SPDX-License-Identifier: Apache-2.0

// Package publish hands events to containerd: over the daemon's ttrpc socket,
// which exists since 1.3.0, over its gRPC socket, which every version has, or,
// when neither can be reached, by "containerd publish".
//
// A daemon's package may be upgraded under a living shim, and with it the
// names of the daemon's binary and sockets (Docker 18.06 to 18.09 renamed
// both). The shim's flags are frozen, so the other names are tried as well.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"containerd-shim/reaper"

	"github.com/containerd/containerd/api/types"
)

// callTimeout bounds one attempt over a socket. A daemon that accepts a
// connection and then says nothing is tried again, by the caller.
const callTimeout = 5 * time.Second

// Config says where the daemon is.
type Config struct {
	// Address is the path of the daemon's gRPC socket, Binary that of its
	// executable, as in the shim's flags.
	Address, Binary string
	// Bundle is the container's bundle, below the daemon's state directory.
	Bundle string
	// Monitor runs "containerd publish".
	Monitor *reaper.Monitor
}

// Publisher tries the ways to the daemon in order, the best first.
type Publisher struct {
	c      Config
	binary *command
}

// New returns a Publisher.
func New(c Config) *Publisher {
	return &Publisher{c: c, binary: newCommand(c.Binary, c.Monitor)}
}

// Publish returns nil once the daemon has taken e. No process is started while
// one of the daemon's sockets answers.
func (p *Publisher) Publish(ctx context.Context, e *types.Envelope) error {
	var errs []error
	for _, address := range p.addresses() {
		for _, forward := range []func(context.Context, string, *types.Envelope) error{viaTTRPC, viaGRPC} {
			err := p.try(ctx, address, e, forward)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
			if !unreachable(err) && !errors.Is(err, errUnsupported) {
				// It is there and busy, or refuses: another way to the same
				// daemon, and a process more for it, would not help.
				return errors.Join(errs...)
			}
		}
	}
	address := p.c.Address
	if alive := p.existing(); alive != "" {
		address = alive
	}
	if err := p.binary.publish(ctx, address, e); err != nil {
		return errors.Join(append(errs, err)...)
	}
	return nil
}

func (p *Publisher) try(ctx context.Context, address string, e *types.Envelope, forward func(context.Context, string, *types.Envelope) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return forward(ctx, address, e)
}

// errUnsupported is a daemon that does not know the method.
var errUnsupported = errors.New("not supported by the daemon")

// unreachable tells whether nobody listens. EPROTOTYPE is a socket of another
// type (connect(2)).
func unreachable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.ENOTSOCK) || errors.Is(err, syscall.EPROTOTYPE) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTDIR)
}

// dial connects to a unix socket. A socket file that nobody serves answers at
// once; a daemon that is stopped lets connect wait when its backlog is full.
func dial(ctx context.Context, path string) (net.Conn, error) {
	if path == "" {
		return nil, fmt.Errorf("no address: %w", fs.ErrNotExist)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if t, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(t); err != nil {
			_ = c.Close() // nothing was written
			return nil, err
		}
	}
	return c, nil
}

// existing returns the first address that has a file.
func (p *Publisher) existing() string {
	for _, a := range p.addresses() {
		if _, err := os.Stat(a); err == nil {
			return a
		}
	}
	return ""
}
