// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"

	"golang.org/x/sys/unix"
)

// absent is memory whose pages cannot be had until give: a read into it or a write from
// it fails with EFAULT, as it does in a memory cgroup that is full.
type absent []byte

func newAbsent(t *testing.T) absent {
	t.Helper()
	b, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(b); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (a absent) give(t *testing.T) {
	t.Helper()
	if err := unix.Mprotect(a, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Error(err)
	}
}

// starve makes a the memory that everything is read into.
func (a absent) starve(t *testing.T) {
	replace := func(make func() any) { copyBuffers = sync.Pool{New: make} }
	had := copyBuffers.New
	replace(func() any { b := []byte(a); return &b })
	t.Cleanup(func() { replace(had) })
}

// rests waits for a goroutine of the package to rest for want of memory, and reports
// whether one does before ended is closed.
func rests(ended <-chan struct{}) (found bool) {
	buf := make([]byte, 1<<20)
	wait.Until(patience, func() bool {
		for one := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			found = found || strings.Contains(one, " [sleep") && strings.Contains(one, "proc/stdio.")
		}
		select {
		case <-ended:
			return true
		default:
			return found
		}
	})
	return found
}

func pipes(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() }) // most are closed by then
	return r, w
}

// TestReadWithoutMemory: an output that is not spliced, one that is held back, and what
// is typed are not at their end because there was no memory to read into.
func TestReadWithoutMemory(t *testing.T) {
	sent := strings.Repeat("hello ", holdLimit/6+1000)
	for name, begin := range map[string]func(src, dst *os.File) (run func()){
		"output": func(src, dst *os.File) func() {
			p := &pump{src: src, dst: dst}
			return func() {
				for _, err := p.step(); err == nil; _, err = p.step() {
				}
			}
		},
		"held": func(src, dst *os.File) func() { // it gets no order: more comes than is held back
			o := newOutput(src, false, &sink{w: dst, kind: isPipe, keepalive: -1}, short())
			o.closeSource, o.drained = func() { _ = src.Close() }, func() {}
			return o.run
		},
		"typed": func(src, dst *os.File) func() {
			i := &input{r: src, fifo: true, limits: short(), decided: make(chan struct{}), decision: toHold, keepalive: -1}
			close(i.decided)
			i.begin(dst, true)
			return func() { i.run(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			memory := newAbsent(t)
			memory.starve(t)
			from, client := pipes(t)
			process, to := pipes(t)
			run := begin(from, to)
			ended := make(chan struct{})
			go func() { defer close(ended); run(); _ = to.Close() }()
			go func() { _, _ = client.WriteString(sent); _ = client.Close() }() // what is missing shows at the other end
			if !rests(ended) {
				t.Error("nothing rests")
			}
			memory.give(t)
			_ = process.SetReadDeadline(time.Now().Add(patience)) // fails only if closed
			got, err := io.ReadAll(process)
			if err != nil || string(got) != sent {
				t.Errorf("%d bytes, %v, want %d", len(got), err, len(sent))
			}
			_ = from.Close() // ends one that has gone wrong
			within(t, patience, "end", ended)
		})
	}
}

// TestDrainWithoutMemory: what a terminal or a runtime has left is not lost.
func TestDrainWithoutMemory(t *testing.T) {
	memory := newAbsent(t)
	memory.starve(t)
	src, w := pipes(t)
	if _, err := w.WriteString("last words"); err != nil {
		t.Fatal(err)
	}
	p := &pump{src: src}
	drained := make(chan struct{})
	go func() { defer close(drained); p.drain(holdLimit) }()
	if !rests(drained) {
		t.Error("nothing rests")
	}
	memory.give(t)
	within(t, patience, "end", drained)
	if string(p.pending) != "last words" {
		t.Errorf("%q", p.pending)
	}
}

// TestWriteWithoutMemory: what could not be written is written later.
func TestWriteWithoutMemory(t *testing.T) {
	memory := newAbsent(t)
	r, dst := pipes(t)
	p := &pump{dst: dst, pending: memory[:5]}
	for range 2 {
		if n, err := p.step(); n != 0 || err != nil {
			t.Fatalf("without memory: %d bytes, %v", n, err)
		}
	}
	memory.give(t)
	copy(memory, "hello")
	if n, err := p.step(); n != 5 || err != nil {
		t.Errorf("with memory: %d bytes, %v", n, err)
	}
	got := make([]byte, 10)
	if n, err := r.Read(got); err != nil || string(got[:n]) != "hello" {
		t.Errorf("%q, %v", got[:n], err)
	}
}
