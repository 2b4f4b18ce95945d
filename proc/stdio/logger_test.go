// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc/internal/proctest"
	"containerd-shim.v1/reaper"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestLoggerGetsBothStreams(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		census(t)
		file := filepath.Join(t.TempDir(), "log")
		p, child := play(t, Config{
			Names:     Names{Stdout: proctest.LoggerURI("copy", file), Terminal: terminal},
			Container: "c1", Namespace: "ns",
		}, "two")
		p.end(t, child)
		var got []byte
		if !wait.Until(patience, func() bool {
			got, _ = os.ReadFile(file) // it may not be there yet
			return strings.HasSuffix(string(got), "end\n")
		}) || !strings.HasPrefix(string(got), "ns c1\n") || !strings.Contains(string(got), "one") || !strings.Contains(string(got), "two") {
			t.Errorf("terminal %v: the log is %q", terminal, got)
		}
	}
}

// B54: a logger that is never ready, or crashes, fails the start in bounded
// time, and is ended.
func TestLoggerThatIsNotReady(t *testing.T) {
	file := filepath.Join(t.TempDir(), "up")
	for name, tt := range map[string]struct{ uri, want string }{
		"never":   {proctest.LoggerURI("never", ""), "not ready within"},
		"deaf":    {proctest.LoggerURI("deaf", file), "not ready within"},
		"crash":   {proctest.LoggerURI("crash", ""), "exited with status 3"},
		"missing": {"binary:///nonexistent/logger", "no such file"},
		"no file": {"binary://" + filepath.Dir(proctest.Child), "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			start := time.Now()
			_, err := Open(Config{Names: Names{Stdin: fifo(t), Stdout: tt.uri}, Monitor: proctest.Monitor, Limits: short()})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !errdefs.IsInternal(err) && !errdefs.IsInvalidArgument(err) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if d := time.Since(start); d > short().Ready+2*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

// TestLoggerThatStillReadsIsNotEnded, however long it takes after Delete, and although the
// program is exchanged long after that.
func TestLoggerThatStillReadsIsNotEnded(t *testing.T) {
	for _, exchanged := range []bool{false, true} {
		t.Run(fmt.Sprintf("exchanged %v", exchanged), func(t *testing.T) {
			census(t)
			const size, piece = 61440, 4096
			patient := short()
			patient.Linger *= 2 // else a pause of the machine is one of the logger's
			sips := fifo(t)
			p, child := play(t, Config{Names: Names{Stdout: proctest.LoggerURI("sip", sips)}, Limits: patient}, "out", fmt.Sprint(size), "0")
			if exchanged {
				within(t, patience, "exit", child.Done())
				adoptDeleted(t, p, patient)
			} else {
				p.end(t, child)
			}
			w := openFifo(t, sips, os.O_WRONLY)
			defer w.Close()
			pace := time.NewTicker(patient.Linger / 5)
			defer pace.Stop()
			for range size/piece + 1 { // three times as long as a logger is waited for that does not read
				<-pace.C
				if _, err := w.Write([]byte{0}); err != nil {
					t.Fatal(err)
				}
			}
			within(t, patience, "end of the logger", p.log.child.Done())
			got, err := os.ReadFile(sips + ".out")
			if err != nil || len(got) != size || p.log.child.Wait().Status != 0 {
				t.Errorf("%d bytes, %v, want %d; status %d", len(got), err, size, p.log.child.Wait().Status)
			}
		})
	}
}

// adoptDeleted takes over the logger of p, as if the process had been deleted long ago.
func adoptDeleted(t *testing.T, p *Streams, l Limits) {
	t.Helper()
	st, err := p.Save()
	if err != nil {
		t.Fatal(err)
	}
	st.Deleted = time.Now().Add(-time.Hour)
	for i, fd := range st.Logger.Pipes { // p's own stay open, too
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		st.Logger.Pipes[i] = state.FD(dup)
	}
	Adopt(t.Context(), Config{Limits: l}, st, func(int) *reaper.Child { return p.log.child })
	t.Cleanup(p.ProcessDeleted)
}

// TestOutputOfADeadLoggerWithoutDescriptors: a logger that died while there was no
// descriptor to spare left its process stopped at the next full pipe.
func TestOutputOfADeadLoggerWithoutDescriptors(t *testing.T) {
	census(t)
	p, child := play(t, Config{Names: Names{Stdout: proctest.LoggerURI("sip", fifo(t))}}, "out", fmt.Sprint(1<<20), "0")
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	restore := func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) } // it was so before
	defer restore()
	// Not 0, for F_DUPFD above the limit is EINVAL; 3 is in use.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 4, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_ = p.log.child.Signal(unix.SIGKILL) // it lives
	buf := make([]byte, 1<<20)
	if !wait.Until(patience, func() bool {
		_, after, _ := strings.Cut(string(buf[:runtime.Stack(buf, true)]), "[select")
		return strings.Contains(after, "(*logger).dropOutput(")
	}) {
		t.Error("it does not wait for a descriptor")
	}
	within(t, patience, "the logger's end", p.log.child.Done())
	restore()
	p.end(t, child) // it has written all
}
