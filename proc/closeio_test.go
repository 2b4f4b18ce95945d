// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"strings"
	"testing"

	"containerd-shim.v1/proc/internal/proctest"
)

// B32: a CloseIO that comes while Start opens the streams, here held up by a
// logger that is not ready, counts as one before the start: a client that is
// late still finds its FIFO open.
func TestCloseIOWhileTheStreamsAreOpened(t *testing.T) {
	census(t)
	f := &fakeRuntime{process: []string{"sleep"}}
	init := running(t, f, InitConfig{})
	init.env.Streams.Ready = patience
	in, gate := fifo(t), fifo(t)
	f.process = []string{"count"}
	p := newTestExec(t, init, "e1", Stdio{Stdin: in, Stdout: proctest.LoggerURI("gate", gate)})
	started := make(chan error, 1)
	go func() { started <- p.Start(t.Context()) }()
	g := openFifo(t, gate, os.O_WRONLY) // the logger is there
	p.CloseStdin()
	_ = g.Close() // and ready now
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	w := openFifo(t, in, os.O_WRONLY)
	if _, err := w.WriteString(strings.Repeat("x", 42)); err != nil {
		t.Error(err)
	}
	_ = w.Close() // it is in the FIFO
	if s := p.awaitStopped(t); s.Exit.Status != 42 {
		t.Errorf("the process read %d bytes, want 42", s.Exit.Status)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}
