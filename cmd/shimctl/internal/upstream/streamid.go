// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"encoding/binary"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
)

// responds finds, for ttrpc 1.2, the stream of the request that a goroutine handles: the
// closure that will respond, which has the stream, is on its stack. It is the outermost: calls
// that the goroutine has made before may have left others further in.
func (r *reader) responds(g goheap.Goroutine) (stream uint32, ok bool) {
	code := r.Text.Entry(r.ttrpc + ".(*serverConn).run.func2.2")
	if code == 0 {
		return 0, false
	}
	for _, word := range r.m.Stack(g) {
		const streamID = 16
		r.m.Try(func() {
			if r.m.Word(word) == code {
				stream, ok = r.m.Uint32(word+streamID), true
			}
		})
	}
	return stream, ok && stream%2 == 1
}

// findStreams does so for all requests. It is done before the stop because it takes long;
// as long as a goroutine does not go on, its request stays the same.
func (r *reader) findStreams() {
	now := r.m.Goroutines(r.goroutines)
	for i := range r.dump.Goroutines {
		g := &r.dump.Goroutines[i]
		if n, ok := now[g.ID]; ok && n.Parked && has(g, r.ttrpc+".(*serviceSet).handle.func1") {
			if stream, ok := r.responds(n); ok {
				r.streamFor[g.ID] = stream
			}
		}
	}
}

// closures finds, for ttrpc 1.2, the stream of each encoded request, by the request's
// address: the closure that handles a request refers to the request and to the closure
// that responds, which has the stream.
func (r *reader) closures() map[uint64]uint32 {
	entry := r.Text.Entry(r.ttrpc + ".(*serviceSet).handle.func1")
	found, several := map[uint64]uint32{}, map[uint64]bool{}
	areas, err := ptrace.Resident(r.pid)
	if err != nil || entry == 0 {
		r.m.Fail("closures: %v", err)
		return nil
	}
	for _, a := range areas {
		b := make([]byte, a.End-a.Start)
		if !ptrace.Read(r.pid, b, a.Start) {
			continue
		}
		for i := 0; i+56 <= len(b); i += 8 {
			if binary.LittleEndian.Uint64(b[i:]) != entry {
				continue
			}
			r.m.Try(func() {
				const request, respond, streamID, service, payload = 24, 48, 16, 40, 72
				req := binary.LittleEndian.Uint64(b[i+request:])
				if r.m.String(req+service) == shimService {
					at, stream := r.m.Word(req+payload), r.m.Uint32(binary.LittleEndian.Uint64(b[i+respond:])+streamID)
					several[at] = several[at] || found[at] != 0 && found[at] != stream
					found[at] = stream
				}
			})
		}
	}
	for at, many := range several { // of an earlier request as well, whose memory is used again
		if many {
			delete(found, at)
		}
	}
	return found
}
