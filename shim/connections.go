// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/gate"
	"containerd-shim.v1/internal/state"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"
)

// acceptPause is the pause after a failed accept(2).
const acceptPause = 100 * time.Millisecond

// connections are the clients' connections, and the gates that stop them.
type connections struct {
	// reads is held by whoever accepts or reads. Once nobody is inside, every byte
	// that was read has been noted by its conn.
	reads gate.Gate
	// writes is held by whoever is in the middle of a frame.
	writes gate.Gate

	mu sync.Mutex
	// +checklocks:mu
	all map[*conn]struct{}
	// +checklocks:mu
	listener deadliner // nil before there is one
	// +checklocks:mu
	adopted []net.Conn // adopted ones that Accept has yet to return
	// +checklocks:mu
	states map[net.Conn]adoptedConn // of adopted ones that have yet to shake hands
}

type deadliner interface{ SetDeadline(time.Time) error }

// adoptedConn is what is known of an adopted connection.
type adoptedConn struct {
	*state.Connection
	number int // its place in state.Shim.Connections, counted from 1
}

func newConnections() *connections {
	return &connections{all: make(map[*conn]struct{}), states: make(map[net.Conn]adoptedConn)}
}

func (c *connections) add(one *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[one] = struct{}{}
}

func (c *connections) remove(one *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, one)
}

func (c *connections) list() (all []*conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for one := range c.all {
		all = append(all, one)
	}
	return all
}

// adopt queues a connection that Accept returns before any new one.
func (c *connections) adopt(fd net.Conn, st *state.Connection, number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.adopted = append(c.adopted, fd)
	c.states[fd] = adoptedConn{st, number}
}

// next takes the oldest adopted connection that is yet to be accepted, or
// returns nil.
func (c *connections) next() (first net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.adopted) > 0 {
		first, c.adopted = c.adopted[0], c.adopted[1:]
	}
	return first
}

// notAccepted reports whether there is one.
func (c *connections) notAccepted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.adopted) > 0
}

// stateOf takes what is known of an adopted connection; ok is false for others,
// and the second time.
func (c *connections) stateOf(fd net.Conn) (st adoptedConn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, ok = c.states[fd]
	delete(c.states, fd)
	return st, ok
}

// standStill stops accepting and reading: it shuts the gate, and interrupts those
// inside by a deadline in the past.
func (c *connections) standStill() {
	c.reads.Shut()
	c.setDeadlines(time.Unix(1, 0))
}

// goOn undoes standStill.
func (c *connections) goOn() {
	c.setDeadlines(time.Time{})
	c.reads.Open()
}

func (c *connections) setDeadlines(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listener != nil {
		_ = c.listener.SetDeadline(t) // fails only if it is closed
	}
	for one := range c.all {
		_ = one.SetReadDeadline(t) // likewise
	}
}

// unanswered names a request that is not answered and that the next program could
// not handle again, or returns "" if there is none.
func (c *connections) unanswered() string {
	for _, one := range c.list() {
		if why := one.unansweredCall(); why != "" {
			return why
		}
	}
	return ""
}

func (c *connections) listenerFD() state.FD {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fdOf(c.listener)
}

// save returns the connections while nobody reads or writes; binary is the program that
// is to be executed.
func (c *connections) save(binary string) (all []*conn, states []state.Connection, err error) {
	if c.notAccepted() { // nobody has its frames yet
		return nil, nil, errors.New("a connection that was taken over is yet to be served")
	}
	all = c.list()
	for _, one := range all {
		st, err := one.save(binary)
		if err != nil {
			return nil, nil, err
		}
		states = append(states, st)
	}
	return all, states, nil
}

// save returns the connection while nobody reads or writes on it. Of the requests to
// exchange the program only those for binary are handed over: the next program could not
// tell which has led to it.
func (c *conn) save(binary string) (st state.Connection, err error) {
	if c.skip > 0 || len(c.first) > 0 {
		return st, errors.New("a request is half read")
	}
	st.Partial = slices.Clone(c.request)
	if st.FD = fdOf(c.Conn); st.FD == 0 {
		return st, errors.New("a connection is being closed")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	streams := make([]uint32, 0, len(c.calls))
	for stream := range c.calls {
		streams = append(streams, stream)
	}
	slices.Sort(streams)
	for _, stream := range streams {
		frame := c.calls[stream].frame
		if asked, ok := asksForUpgrade(frame); ok && asked != binary {
			st.Errors = append(st.Errors, state.Error{Stream: stream, Code: int(codes.Unavailable), Text: "another exchange of the program came first"})
		} else {
			st.Requests = append(st.Requests, frame)
		}
	}
	return st, nil
}

// answerHere has this program answer the open Waits for a process that was deleted, which
// the next one would not know: until they are answered, nothing is handed over.
func (c *connections) answerHere(id string) {
	for _, one := range c.list() {
		one.answerHere(id)
	}
}

func (c *conn) answerHere(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for stream, unanswered := range c.calls {
		if unanswered.method == "Wait" && unanswered.id == id {
			unanswered.frame = nil
			c.calls[stream] = unanswered
		}
	}
}

// unansweredCall is unanswered for one connection.
func (c *conn) unansweredCall() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, unanswered := range c.calls {
		if unanswered.frame == nil {
			return fmt.Sprintf("%s %s is not answered", unanswered.method, unanswered.id)
		}
	}
	return ""
}

// Listener wraps l so that its Accept fails only when l is closed. ttrpc's server
// gives up at an error that is not temporary, such as ENOMEM, and the container
// would lose its supervisor to a moment without memory. Accept returns adopted
// connections first.
func (s *Supervisor) Listener(l net.Listener) net.Listener { return s.conns.listen(l) }

func (c *connections) listen(l net.Listener) net.Listener {
	wrapped := &lasting{Listener: l, conns: c}
	wrapped.keep(keepTime)
	return wrapped
}

// keepTime is how long listen waits for the descriptor and the memory that an acceptor
// needs. Meanwhile nobody is served.
const keepTime = time.Second

// keep puts an acceptor in the listener's place if there are a descriptor and memory for
// one within limit. Without it connections are accepted all the same.
func (l *lasting) keep(limit time.Duration) {
	listener := l.Listener
	if u, ok := listener.(*net.UnixListener); ok {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		a, err := errclass.WhileExhausted(ctx, func() (*acceptor, error) { return newAcceptor(u) })
		if err == nil {
			listener = a
		} else {
			logrus.WithError(err).Warn("a connection may be lost if memory is missing")
		}
	}
	l.conns.mu.Lock()
	defer l.conns.mu.Unlock()
	l.Listener = listener
	l.conns.listener, _ = listener.(deadliner)
}

func (l *lasting) Close() error {
	l.conns.mu.Lock()
	listener := l.Listener
	l.conns.mu.Unlock()
	return listener.Close() // it may remove a file
}

// lasting is the Listener that accepts in one goroutine.
type lasting struct {
	net.Listener
	conns *connections
	// inside reports that this goroutine is inside conns.reads. It stays there
	// after Accept has returned, until it is called again: by then what was
	// accepted is among conns.
	inside bool
}

func (l *lasting) Accept() (net.Conn, error) {
	if l.inside {
		l.conns.reads.Leave()
	}
	l.conns.reads.Enter()
	l.inside = true
	for {
		if c := l.conns.next(); c != nil {
			return c, nil
		}
		if _, plain := l.Listener.(*net.UnixListener); plain {
			l.keep(0)
		}
		c, err := l.Listener.Accept()
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, net.ErrClosed):
			l.inside = false
			l.conns.reads.Leave()
			return nil, err
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.conns.reads.Pass()
		default:
			logrus.WithError(err).Warn("accept")
			time.Sleep(acceptPause)
		}
	}
}
