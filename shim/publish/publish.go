// SPDX-License-Identifier: Apache-2.0

// Package publish hands events to containerd: over the daemon's ttrpc socket,
// which exists since 1.3.0, over its gRPC socket, which every version has, or,
// where neither will do, by "containerd publish".
//
// A daemon's package may be upgraded under a living shim, and the names of the
// daemon's binary and sockets with it (between 18.06 and 18.09 Docker renamed
// both). The shim's flags cannot change, so the other names are tried as well.
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

	"containerd-shim.v1/reaper"

	"github.com/containerd/containerd/api/types"
)

// ErrAway says that no daemon is there: nobody listens on any of its sockets.
// ErrNoConnection says that none could be reached, whether one is there or not.
var (
	ErrNoConnection = errors.New("no connection")
	ErrAway         = fmt.Errorf("no daemon listens: %w", ErrNoConnection)
)

const (
	// lookAgain is the time between two looks at the sockets during a wait for
	// something else.
	lookAgain = 100 * time.Millisecond
	// answerTimeout bounds the first attempt to send an event: the call may be
	// stuck in a daemon that is otherwise well. laterTimeout bounds the others; it
	// is much longer because a daemon that has stalled finds every attempt when it
	// goes on.
	answerTimeout = 10 * time.Second
	laterTimeout  = 10 * time.Minute
	// binaryTimeout bounds one run of "containerd publish".
	binaryTimeout = 10 * time.Second
	// binaryPause is how long the binary is not run again after it has failed
	// where no socket was found.
	binaryPause = time.Minute
)

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

// Publisher tries the ways to the daemon in order, the best first. It is not
// safe for concurrent use.
type Publisher struct {
	c Config
	// failed is when the binary last failed without a daemon; zero if it has not
	// since it, or a socket, last worked.
	failed time.Time
	// unanswered is the event whose first attempt was given up.
	unanswered *types.Envelope
	// first and later are answerTimeout and laterTimeout, except in tests.
	first, later time.Duration
}

// New returns a Publisher for the daemon that c describes.
func New(c Config) *Publisher { return &Publisher{c: c, first: answerTimeout, later: laterTimeout} }

// Publish makes one attempt to hand e to the daemon. It returns nil once the
// daemon has taken e, and an error that wraps ErrAway if nobody listens. An
// attempt that a daemon has accepted cannot be taken back, so a daemon that
// stalls gets one copy too many after answerTimeout, and another only after every
// laterTimeout.
//
// "containerd publish" connects to the same sockets, so it is run only for a
// daemon that listens but does not know the call, and, at most once in
// binaryPause, where there is no socket at all.
func (p *Publisher) Publish(ctx context.Context, e *types.Envelope) error {
	answer := p.viaSockets(ctx, e)
	switch {
	case answer.err == nil:
		p.failed = time.Time{}
		return nil
	case answer.unsupported != "":
		if err := p.run(ctx, answer.unsupported, e); err != nil {
			return errors.Join(answer.err, err)
		}
		return nil
	case answer.there:
		return answer.err
	case answer.refused || !p.failed.IsZero() && time.Since(p.failed) < binaryPause:
		return fmt.Errorf("%w: %w", ErrAway, answer.err)
	}
	return p.blindly(ctx, e, answer.err)
}

// answer is what the sockets had to say.
type answer struct {
	err         error
	there       bool   // a daemon listens, but has not taken the event
	refused     bool   // a file is there, but nobody answers
	unsupported string // the address of a daemon that does not know the call
}

func (p *Publisher) viaSockets(ctx context.Context, e *types.Envelope) (a answer) {
	var errs []error
	for _, address := range p.addresses() {
		for _, forward := range []func(context.Context, string, *types.Envelope) error{viaTTRPC, viaGRPC} {
			err := p.try(ctx, address, e, forward)
			if err == nil {
				return answer{}
			}
			errs = append(errs, err)
			switch {
			case errors.Is(err, errUnsupported):
				a.unsupported = address
			case errors.Is(err, fs.ErrNotExist):
			case refused(err):
				a.refused = true
			default:
				// It is there and busy, or refuses: another way to the same
				// daemon would not help.
				return answer{err: errors.Join(errs...), there: true}
			}
		}
	}
	a.err = errors.Join(errs...)
	return a
}

// try makes one attempt by forward, at the gRPC address.
func (p *Publisher) try(ctx context.Context, address string, e *types.Envelope, forward func(context.Context, string, *types.Envelope) error) error {
	limit := p.first
	if e == p.unanswered {
		limit = p.later
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := forward(bounded, address, e)
	// By the clock: the daemon is told the limit, and its own word that it is over may come
	// before this program's timer has run.
	if over, _ := bounded.Deadline(); err != nil && ctx.Err() == nil && !time.Now().Before(over) {
		p.unanswered = e
		return fmt.Errorf("%s: no answer within %v: %w", address, limit, context.DeadlineExceeded)
	}
	return err
}

// blindly runs the binary although no socket was found, and ends it as soon as a
// socket accepts connections. why says what is wrong with the sockets.
func (p *Publisher) blindly(ctx context.Context, e *types.Envelope, why error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		tick := time.NewTicker(lookAgain)
		defer tick.Stop()
		for !p.listening() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		cancel()
	}()
	err := p.run(ctx, p.c.Address, e)
	if err == nil {
		p.failed = time.Time{}
		return nil
	}
	p.failed = time.Now()
	return fmt.Errorf("%w: %w", ErrAway, errors.Join(why, err))
}

// listening reports whether a daemon accepts connections.
func (p *Publisher) listening() bool {
	for _, address := range p.addresses() {
		for _, path := range []string{ttrpcAddress(address), address} {
			if c, err := net.Dial("unix", path); err == nil {
				_ = c.Close() // nothing was written
				return true
			}
		}
	}
	return false
}

// errUnsupported is a daemon that does not know the method.
var errUnsupported = errors.New("not supported by the daemon")

// refused reports whether nobody answers. EPROTOTYPE is a socket of another
// type (connect(2)).
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errHungUp) || errors.Is(err, syscall.ENOTSOCK) ||
		errors.Is(err, syscall.EPROTOTYPE) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTDIR)
}

// errHungUp is a daemon that closes the connection without an answer: it rejects
// the peer's user or group, or it is ending.
var errHungUp = errors.New("the daemon hung up")

// dial connects to a unix socket. The connection is closed when ctx ends, or
// when another socket is found at path: then another daemon serves it, and this
// one has no clients any more. The caller must call release, which closes the
// connection, too.
func dial(ctx context.Context, path string) (c net.Conn, release func(), err error) {
	if path == "" {
		return nil, nil, fmt.Errorf("no address: %w", fs.ErrNotExist)
	}
	before, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	var d net.Dialer
	if c, err = d.DialContext(ctx, "unix", path); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNoConnection, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer c.Close() // whoever reads from it gets an error
		tick := time.NewTicker(lookAgain)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if now, err := os.Stat(path); err == nil && !os.SameFile(before, now) {
				return
			}
		}
	}()
	return c, cancel, nil
}
