// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"os"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/internal/stackdump"
)

// Docker's own builds passed arguments on the stack. A dump of one (Go 1.10) in the ring shows
// the stream of each request, and where the request is.
func TestRequestsOfProductionDump(t *testing.T) {
	text, err := os.ReadFile("../../../../internal/stackdump/testdata/B01-production.txt")
	if err != nil {
		t.Fatal(err)
	}
	dump, err := stackdump.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	release := *releases[0]
	release.ttrpc = containerd + "vendor/" + release.ttrpc
	r := &reader{Program: &Program{Release: &release, Era: &goheap.Era{StackArgs: true}}, dump: dump, conns: []*connection{{run: 8}}, servedBy: map[uint64]uint64{}}
	r.m = goheap.New(0, r.Era, nil)
	got := map[string]pending{}
	for i := range dump.Goroutines {
		r.servedBy[dump.Goroutines[i].ID] = 8 // the only connection's
		p, err := r.pending(&dump.Goroutines[i])
		if err != nil || r.m.Err() != nil {
			t.Fatal(err, r.m.Err())
		}
		if p != nil {
			got[p.method] = pending{stream: p.stream, request: p.request, payload: p.payload, size: p.size}
		}
	}
	want := map[string]pending{
		// It is with the runtime and needs its request no longer, which may have been freed.
		"Kill": {stream: 0xace455, payload: 0xc420226c30, size: 0x44},
		// It waits for the lock of the service.
		"State": {stream: 0xace457, request: 0xc420120af0, payload: 0xc420226c80, size: 0x42},
	}
	for method, w := range want {
		if got[method] != w {
			t.Errorf("%s: got %+v, want %+v", method, got[method], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %+v", got)
	}
}
