// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"testing"
	"time"
)

// neverLook makes every look that no event asks for come too late.
func neverLook(t *testing.T) {
	late, soon, poll := lateReader, readerSoon, readerPoll
	lateReader, readerSoon, readerPoll = time.Hour, time.Hour, time.Hour
	t.Cleanup(func() { lateReader, readerSoon, readerPoll = late, soon, poll })
}

// ended is output whose process has ended before any client came, and for which
// the shim waits.
func ended(t *testing.T) (string, *processIO) {
	t.Helper()
	path := fifo(t)
	p, child := play(t, ioConfig{stdio: Stdio{Stdout: path}}, "out", "100", "0")
	within(t, patience, "exit", child.Done())
	p.processExited()
	within(t, patience, "end of the output", p.drained)
	return path, p
}

func closed(f *os.File) func() bool {
	return func() bool { _, err := f.Stat(); return err != nil }
}

// An output that waits for its client does not poll: the client's open is an
// event, and so is the end of the FIFO's name.
func TestLateReaderIsAnEvent(t *testing.T) {
	for name, comes := range map[string]func(path string){
		"reader":  func(path string) { attach(t, path).all(t) },
		"removed": func(path string) { _ = os.Remove(path) }, // or the test fails
		"renamed": func(path string) { _ = os.Rename(path, path+".old") },
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			neverLook(t)
			path, p := ended(t)
			out := p.relays()[0].out
			comes(path)
			if !eventually(patience, closed(out.w)) {
				t.Error("the shim still waits for a reader")
				p.abort()
			}
			p.processDeleted()
		})
	}
}

// Where nothing can be watched the shim looks by itself.
func TestLateReaderWithoutAWatch(t *testing.T) {
	census(t)
	watch := watchFIFO
	watchFIFO = func(*os.File) *fifoWatch { return nil }
	t.Cleanup(func() { watchFIFO = watch })
	path, p := ended(t)
	if got := attach(t, path).all(t); len(got) != 100 {
		t.Errorf("%d bytes, want 100", len(got))
	}
	if !eventually(patience, closed(p.relays()[0].out.w)) {
		t.Error("the shim still waits for a reader")
	}
	p.processDeleted()
}
