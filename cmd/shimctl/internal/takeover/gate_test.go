// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/inplace"
	"containerd-shim.v1/internal/stackdump"
)

// TestGateTakesAFreshDump: a dump for which somebody has asked before may be older than the gate,
// and what its shim has read since would be lost. Only the one after it is surely newer.
func TestGateTakesAFreshDump(t *testing.T) {
	asked := 0
	g := &gate{pid: os.Getpid(), held: map[int]bool{}, ask: func() error { asked++; return nil }}
	write := func(text string) inplace.Call {
		b := []byte(text)
		return inplace.Call{Nr: unix.SYS_WRITE, Args: [6]uint64{2, uint64(uintptr(unsafe.Pointer(&b[0]))), uint64(len(b))}}
	}
	ended := func(result int64) inplace.Call { return inplace.Call{Nr: unix.SYS_WRITE, Ended: true, Result: result} }
	early, old, fresh := stackdump.BeginMark+" early", stackdump.BeginMark+" old", stackdump.BeginMark+" fresh"
	for _, step := range []struct {
		what  string
		call  inplace.Call
		want  inplace.Verdict
		asked int
	}{
		{"before every thread is at the gate", write(early), inplace.Pass, 1},
		{"asked for before", write(old), inplace.Watch, 1},
		{"no room in the log", ended(-int64(unix.EAGAIN)), inplace.Pass, 1},
		{"the same again", write(old), inplace.Watch, 1},
		{"the first half is written", ended(5), inplace.Pass, 2},
		{"the rest of it", write("d"), inplace.Pass, 2},
		{"asked for at the gate", write(fresh), inplace.Finish, 2},
	} {
		if got := g.look(step.call); got != step.want {
			t.Errorf("%s: %v, want %v", step.what, got, step.want)
		}
		if !g.begun {
			if err := g.begin(); err != nil {
				t.Fatal(err)
			}
		}
		if asked != step.asked {
			t.Errorf("%s: asked %d times, want %d", step.what, asked, step.asked)
		}
	}
	if string(g.text) != fresh {
		t.Errorf("took %q", g.text)
	}
}
