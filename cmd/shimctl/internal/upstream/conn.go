// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"containerd-shim.v1/internal/stackdump"
	"containerd-shim.v1/internal/state"
)

// connection is a client's connection, as memory and dump show it.
type connection struct {
	run     uint64 // the goroutine that starts its handlers
	server  uint64 // the goroutine that answers, the same but in ttrpc 1.2
	channel uint64 // address of ttrpc's channel
	state.Connection
}

// Offsets in ttrpc's channel, in every release, and the size of a frame's header.
const (
	channelConn   = 0
	channelReader = 24
	channelHeader = 32
	headerSize    = 10
)

// pollFD returns the address of the poll.FD of a channel's connection, which has a pointer to
// its netFD, which begins with it.
func (r *reader) pollFD(channel uint64) uint64 { return r.m.Word(r.m.Data(channel + channelConn)) }

// receiver returns the function in which a connection is read.
func (r *reader) receiver() string {
	if r.calls { // there func1 is a closure that sends
		return r.ttrpc + ".(*serverConn).run.func2"
	}
	return r.ttrpc + ".(*serverConn).run.func1"
}

// connections finds the clients' connections, each by its goroutine that receives.
func (r *reader) connections() error {
	for i := range r.dump.Goroutines {
		g := &r.dump.Goroutines[i]
		if !has(g, r.receiver()) {
			continue
		}
		recv, fd := frameOf(g, r.ttrpc+".(*channel).recv"), frameOf(g, "internal/poll.(*FD).Read")
		if recv == nil || fd == nil || g.State != "IO wait" && !r.atRead(g) { // it may hold bytes that are nowhere else
			return fmt.Errorf("%w: a connection is being read", ErrBusy)
		}
		c := &connection{run: g.CreatedIn} // that one starts the handlers, too
		if r.calls {
			c.run = g.ID
		}
		ch, at := words(recv.Args), words(fd.Args)
		if len(ch) == 0 || len(at) == 0 || !exact(ch[0]) || !exact(at[0]) && !r.atRead(g) {
			r.m.Fail("a connection is not shown: %s, %s", recv.Args, fd.Args)
			return nil
		}
		if c.run == 0 {
			if c.run = r.serverOf(value(ch[0])); c.run == 0 {
				return fmt.Errorf("%w: who serves a connection is not known", ErrBusy)
			}
		}
		if c.server = c.run; r.calls {
			c.server = g.CreatedIn
		}
		c.channel = value(ch[0])
		file := r.pollFD(c.channel)
		if exact(at[0]) && file != value(at[0]) { // at the system call a dump does not vouch for it
			r.m.Fail("a connection reads from %#x, its channel from %#x", value(at[0]), file)
			return nil
		}
		c.FD = state.FD(r.m.Int(file + fdNumber))
		if r.atRead(g) && !r.heldReads[int(c.FD)] {
			return fmt.Errorf("%w: a connection is being read", ErrBusy)
		}
		if !r.fds.use(c.FD, "socket:") {
			r.m.Fail("descriptor %d is no connection", c.FD)
		}
		if err := r.partial(c, g); err != nil {
			return err
		}
		r.conns = append(r.conns, c)
	}
	slices.SortFunc(r.conns, func(a, b *connection) int { return cmp.Compare(a.FD, b.FD) })
	r.findClosing()
	closing := len(r.closing)
	// Every socket must be one of them, or the listener.
	for n, d := range r.fds {
		listens, unix := r.sockets[d.link]
		switch {
		case d.used || !unix || n < 3: // stdio stays as it is
		case listens && r.listener == 0:
			r.listener, d.used = n, true
		case listens && r.fds[r.listener].link == d.link: // a duplicate, which is not needed
		case !listens && closing > 0:
			closing-- // it is closed once the last call on it has ended
		default:
			return fmt.Errorf("%w: socket %d is not served by any goroutine", ErrBusy, n)
		}
	}
	if r.listener == 0 {
		return fmt.Errorf("%w: it does not listen", ErrRefused)
	}
	return nil
}

// partial reads the part of a frame that was received so far.
func (r *reader) partial(c *connection, g *stackdump.Goroutine) error {
	buffer := r.m.Word(c.channel + channelReader)
	from, to := r.m.Int(buffer+40), r.m.Int(buffer+48)
	if from != to {
		return fmt.Errorf("%w: a connection has been read ahead", ErrBusy)
	}
	header := c.channel + channelHeader
	read := frameOf(g, "bufio.(*Reader).Read")
	whole := frameOf(g, "io.ReadAtLeast")
	if read == nil || whole == nil {
		r.m.Fail("how a connection is read is not shown")
		return nil
	}
	a, b := words(read.Args), words(whole.Args) // reader, ptr, len, cap; type, reader, ptr, len, cap, least
	if len(a) < 3 || len(b) < 4 || !exact(a[1]) || !exact(a[2]) {
		r.m.Fail("how a connection is read is not shown: %s; %s", read.Args, whole.Args)
		return nil
	}
	at, left := value(a[1]), value(a[2])
	if at >= header && at < header+headerSize {
		if at-header+left != headerSize {
			r.m.Fail("a header of %d bytes", at-header+left)
		}
		c.Partial = r.m.Bytes(header, int(at-header))
		return nil
	}
	if !exact(b[2]) || !exact(b[3]) {
		r.m.Fail("a half-read request is not shown: %s", whole.Args)
		return nil
	}
	payload, size := value(b[2]), value(b[3])
	c.Partial = r.m.Bytes(header, headerSize)
	if uint64(binary.BigEndian.Uint32(c.Partial)) != size || left > size || payload+size-left != at {
		r.m.Fail("%d of %d bytes of a request are left", left, size)
		return nil
	}
	c.Partial = append(c.Partial, r.m.Bytes(payload, int(size-left))...)
	return nil
}

// of returns the connection on which a handler answers, nil if that is closed. ok is false
// if it is not known.
func (r *reader) of(g *stackdump.Goroutine) (c *connection, ok bool) {
	run := g.CreatedIn
	if run == 0 { // before Go 1.21 a dump does not say who has started a goroutine
		if run, ok = r.servedBy[g.ID]; !ok {
			return nil, false
		}
	}
	for _, c := range r.conns {
		if c.run == run {
			return c, true
		}
	}
	return nil, r.closing[run] || r.goroutine(run) == nil
}

// findClosing finds the goroutines that answer on a connection from which nobody receives any
// more, because that has failed: its client has gone with answers unread.
func (r *reader) findClosing() {
	r.closing = map[uint64]bool{}
	for i := range r.dump.Goroutines {
		id := r.dump.Goroutines[i].ID
		if r.serves(id) && !slices.ContainsFunc(r.conns, func(c *connection) bool { return c.server == id }) {
			r.closing[id] = true
		}
	}
}

// findServers finds, for programs of Go before 1.21, the goroutine that serves the
// connection on which each handler answers. A handler has on its stack the channel through
// which it will answer, at which that goroutine waits, and the one that is closed when the
// connection is.
func (r *reader) findServers() {
	now := r.m.Goroutines(r.goroutines)
	r.servedBy = map[uint64]uint64{}
	several := map[uint64]bool{}
	for i := range r.dump.Goroutines {
		g := &r.dump.Goroutines[i]
		n, there := now[g.ID]
		if g.CreatedIn != 0 || !there || !n.Parked || !has(g, r.ttrpc+".(*serverConn).run.func2") {
			continue
		}
		for _, word := range r.m.Stack(n) {
			r.m.Try(func() {
				switch c := r.m.Chan(word); {
				case c.ElemSize == responseSize && !c.ClosedChan && len(c.Receivers) == 1 && r.serves(c.Receivers[0].ID):
					several[g.ID] = several[g.ID] || r.servedBy[g.ID] != gone && r.servedBy[g.ID] != c.Receivers[0].ID
					r.servedBy[g.ID] = c.Receivers[0].ID
				case c.ElemSize == 0 && c.ClosedChan && r.servedBy[g.ID] == gone:
					r.servedBy[g.ID] = gone // and not unknown
				}
			})
		}
		if several[g.ID] { // one is of a call that the goroutine made before
			delete(r.servedBy, g.ID)
		}
	}
}

// The size of ttrpc's response, a stream and a pointer, and the number of no goroutine.
const (
	responseSize = 16
	gone         = 0
)

// serves reports whether a goroutine serves a connection.
func (r *reader) serves(id uint64) bool {
	g := r.goroutine(id)
	return g != nil && len(g.Frames) > 0 && g.Frames[0].Func == r.ttrpc+".(*serverConn).run"
}

// serverOf returns the goroutine that serves the connection of a channel of ttrpc's, which
// is on its stack; 0 if it is not known.
func (r *reader) serverOf(channel uint64) (id uint64) {
	now := r.m.Goroutines(r.goroutines)
	for i := range r.dump.Goroutines {
		g := &r.dump.Goroutines[i]
		if r.serves(g.ID) && now[g.ID].Parked && slices.Contains(r.m.Stack(now[g.ID]), channel) {
			if id != 0 {
				return 0
			}
			id = g.ID
		}
	}
	return id
}
