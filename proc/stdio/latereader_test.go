// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"os"
	"testing"

	"containerd-shim.v1/integration/harness/wait"
)

// ended is output whose process has ended before any client came, and for which
// the shim waits.
func ended(t *testing.T) (string, *Streams) {
	t.Helper()
	path := fifo(t)
	p, child := play(t, Config{Names: Names{Stdout: path}}, "out", "100", "0")
	within(t, patience, "exit", child.Done())
	p.ProcessExited()
	within(t, patience, "end of the output", p.drained)
	return path, p
}

func isClosed(f *os.File) func() bool {
	return func() bool { _, err := f.Stat(); return err != nil }
}

// Output that has ended before its client came is closed soon after the client
// is there, or can come no more.
func TestLateReaderIsNoticed(t *testing.T) {
	for name, comes := range map[string]func(path string){
		"reader":  func(path string) { attach(t, path).All(t) },
		"removed": func(path string) { _ = os.Remove(path) }, // or the test fails
		"renamed": func(path string) { _ = os.Rename(path, path+".old") },
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			path, p := ended(t)
			out := p.all()[0].sink
			comes(path)
			if !wait.Until(patience, isClosed(out.w)) {
				t.Error("the shim still waits for a reader")
				p.Abort()
			}
			p.ProcessDeleted()
		})
	}
}
