// SPDX-License-Identifier: Apache-2.0

package shim

import "time"

const (
	// replyWait bounds how long an exit is held back for the reply to the
	// Start, or Create, of the process.
	replyWait = 30 * time.Second
	// noticeWait bounds how long it is held back after that reply for the
	// daemon to publish the start. A daemon under load that needs longer than
	// this is still in time if it has asked for the State.
	noticeWait = 250 * time.Millisecond
)

// reply is the answer to a Start or Create. containerd publishes the start of
// a process after our reply, and every version then asks for the State of it.
// An exit that overtakes the start is lost on dockerd: it looks an exit's pid
// up where it stores it after Start, and only the start event, which waits for
// that, keeps the exit event behind it in order (moby daemon/monitor.go).
type reply struct {
	at      time.Time     // when the handler returned; set before sent is closed
	sent    chan struct{} // closed when the handler has returned
	noticed chan struct{} // closed by the first State after that
}

// done is called when the handler returns.
func (r *reply) done() {
	r.at = time.Now()
	close(r.sent)
}

// beginReply notes that a Start or Create of id is being handled. The caller
// calls done when it returns.
func (s *Supervisor) beginReply(id string) *reply {
	r := &reply{sent: make(chan struct{}), noticed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.replies[id]; ok {
		select {
		case <-old.sent:
		default:
			return r // another call for id is on its way, and counts
		}
	}
	s.replies[id] = r
	return r
}

// notice is called for each State of id.
func (s *Supervisor) notice(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.replies[id]
	if !ok {
		return
	}
	select {
	case <-r.sent:
		close(r.noticed)
		delete(s.replies, id)
	default:
	}
}

// awaitReply returns when the start of id may be taken to be published.
func (s *Supervisor) awaitReply(id string) {
	s.mu.Lock()
	r, ok := s.replies[id]
	s.mu.Unlock()
	if !ok {
		return
	}
	waitFor(r.sent, replyWait)
	select {
	case <-r.sent:
		waitFor(r.noticed, noticeWait-time.Since(r.at))
	default: // its runtime hangs; the exit has waited long enough
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replies[id] == r {
		delete(s.replies, id)
	}
}
