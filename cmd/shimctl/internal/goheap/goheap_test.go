// SPDX-License-Identifier: Apache-2.0

package goheap

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"containerd-shim.v1/cmd/shimctl/internal/gotext"
	"containerd-shim.v1/internal/stackdump"
)

// own returns this process's own memory. Meanwhile no goroutine may change what is
// read.
func own(t *testing.T) *Memory {
	t.Helper()
	era := For(runtime.Version())
	if era == nil {
		t.Fatalf("%s is not known", runtime.Version())
	}
	text, err := gotext.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = text.Close() })
	return New(os.Getpid(), era, text)
}

// at returns the address of a variable, which then stays there: one on a stack moves
// when the stack grows.
func at[T any](p *T) uint64 {
	onHeap = p
	return uint64(uintptr(unsafe.Pointer(p)))
}

var onHeap any

type shape interface{ Area() int }

type square struct{ side int }

func (s *square) Area() int { return s.side * s.side }

func TestValues(t *testing.T) {
	m := own(t)
	v := &struct {
		s    string
		list []string
		n    int
		b    bool
		i    shape
	}{"text", []string{"a", "", "ccc"}, -7, true, &square{3}}
	base := at(v)
	if got := m.String(base); got != "text" {
		t.Errorf("string: %q", got)
	}
	if got := m.Strings(base + 16); !slices.Equal(got, v.list) {
		t.Errorf("strings: %q", got)
	}
	if m.Int(base+40) != -7 || !m.Bool(base+48) {
		t.Errorf("int %d, bool %v", m.Int(base+40), m.Bool(base+48))
	}
	if got, want := m.Type(base+56), "containerd-shim.v1/cmd/shimctl/internal/goheap.(*square)"; got != want {
		t.Errorf("type %q, want %q", got, want)
	}
	if m.Int(m.Data(base+56)) != 3 || v.i.Area() != 9 { // the linker drops a method that nobody calls
		t.Errorf("data: %d", m.Int(m.Data(base+56)))
	}
	if m.Err() != nil {
		t.Error(m.Err())
	}
	runtime.KeepAlive(v)
}

func TestMap(t *testing.T) {
	for _, n := range []int{0, 1, 8, 9, 100, 5000} { // one group, one table, a directory of several
		shapes := map[string]shape{}
		for i := range n + n/2 {
			shapes[fmt.Sprint("key", i)] = &square{i}
		}
		for i := n; i < n+n/2; i++ { // holes
			delete(shapes, fmt.Sprint("key", i))
		}
		m := own(t)
		entries := m.Map(m.Word(at(&shapes)))
		got := map[string]int{}
		for _, e := range entries {
			got[e.Key] = m.Int(m.Data(e.Elem))
		}
		if m.Err() != nil || len(got) != n {
			t.Fatalf("%d: got %d, %v", n, len(got), m.Err())
		}
		for i := range n {
			if got[fmt.Sprint("key", i)] != i {
				t.Fatalf("%d: %d is %d", n, i, got[fmt.Sprint("key", i)])
			}
		}
		runtime.KeepAlive(shapes)
	}
}

func TestChan(t *testing.T) {
	type item struct{ a, b, c int }
	c := make(chan item, 3)
	for i := range 5 { // past the end of the buffer
		if i >= 3 {
			<-c
		}
		c <- item{i, -i, 0}
	}
	go func(n int) { c <- item{n, -n, 0} }(9) // not a constant, which would not be on its stack
	other := make(chan struct{})
	go func() { <-other }()
	var m *Memory
	var ch, waited *Chan
	for deadline := 0; ; deadline++ { // until both stand at their channels
		m = own(t)
		ch, waited = m.Chan(m.Word(at(&c))), m.Chan(m.Word(at(&other)))
		if len(ch.Senders) == 1 && len(waited.Receivers) == 1 || deadline > 1e6 {
			break
		}
		runtime.Gosched()
	}
	if m.Err() != nil || len(ch.Senders) != 1 || len(waited.Receivers) != 1 || ch.ElemSize != 24 || len(ch.Queued) != 3 {
		t.Fatalf("got %+v, %+v, %v", ch, waited, m.Err())
	}
	for i, q := range ch.Queued {
		if m.Int(q) != i+2 || m.Int(q+8) != -i-2 {
			t.Errorf("element %d: %d", i, m.Int(q))
		}
	}
	s := ch.Senders[0]
	if m.Int(s.Elem) != 9 || m.Int(s.Elem+8) != -9 {
		t.Errorf("the sender's element is %d", m.Int(s.Elem))
	}
	if words := m.Stack(s.Goroutine); len(words) == 0 || s.Elem < s.sp || s.Elem >= s.hi || words[(s.Elem-s.sp)/8] != 9 {
		t.Errorf("a stack from %#x to %#x, its element at %#x", s.sp, s.hi, s.Elem)
	}
	if s.ID == 0 || s.ID == waited.Receivers[0].ID {
		t.Errorf("goroutines %d and %d", s.ID, waited.Receivers[0].ID)
	}
	close(other)
}

// calls returns the number and the return addresses of the goroutine that runs
// function, from a stack dump.
func calls(t *testing.T, text *gotext.Table, function string) (id uint64, returns []uint64) {
	t.Helper()
	b := make([]byte, 1<<20)
	d, err := stackdump.Parse(b[:runtime.Stack(b, true)])
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range d.Goroutines {
		for _, f := range g.Frames {
			if f.Func == function {
				id = g.ID
			}
		}
		if id == 0 {
			continue
		}
		for _, f := range g.Frames {
			if f.Offset != 0 {
				returns = append(returns, text.Entry(f.Func)+f.Offset)
			}
		}
		return id, returns
	}
	t.Fatalf("no goroutine is in %s:\n%s", function, b)
	return 0, nil
}

//go:noinline
func waitsTwice(first, second chan int) {
	<-first
	<-second
}

func TestGoroutines(t *testing.T) {
	first, second := make(chan int), make(chan int)
	go waitsTwice(first, second)
	text := own(t).text
	const function = "containerd-shim.v1/cmd/shimctl/internal/goheap.waitsTwice"
	list := own(t).FindGoroutines()
	var id uint64
	var returns []uint64
	// until polls the goroutine until ok, which compares it with what it was when
	// returns was set.
	until := func(ok func(m *Memory, g Goroutine, there bool) bool) {
		t.Helper()
		for range int(1e6) {
			m := own(t)
			g, there := m.Goroutines(list)[id]
			if m.Err() != nil {
				t.Fatal(m.Err())
			}
			if ok(m, g, there) {
				return
			}
			runtime.Gosched()
		}
		t.Fatal("the goroutine did not get there")
	}
	until(func(m *Memory, _ Goroutine, _ bool) bool {
		id, returns = calls(t, text, function)
		g := m.Goroutines(list)[id]
		return len(returns) > 0 && g.Parked && m.Inside(g, returns)
	})
	if m := own(t); m.System(m.Goroutines(list)[id]) {
		t.Error("it counts as the runtime's own")
	}
	first <- 1
	until(func(m *Memory, g Goroutine, there bool) bool { return there && g.Parked && !m.Inside(g, returns) })
	second <- 1
	until(func(_ *Memory, _ Goroutine, there bool) bool { return !there })
}

// TestNonsense: whatever is absent or cannot be true gives an error, not a panic.
func TestNonsense(t *testing.T) {
	junk := [64]uint64{}
	for i := range junk {
		junk[i] = 0x1122334455667788
	}
	for name, read := range map[string]func(*Memory, uint64){
		"string":  func(m *Memory, p uint64) { m.String(p) },
		"strings": func(m *Memory, p uint64) { m.Strings(p) },
		"bool":    func(m *Memory, p uint64) { m.Bool(p) },
		"type":    func(m *Memory, p uint64) { m.Type(p) },
		"map":     func(m *Memory, p uint64) { m.Map(p) },
		"chan":    func(m *Memory, p uint64) { m.Chan(p) },
	} {
		for _, p := range []uint64{at(&junk), 8, 1 << 63} {
			m := own(t)
			if read(m, p); m.Err() == nil {
				t.Errorf("%s at %#x: no error", name, p)
			}
		}
	}
	m := own(t)
	if m.Try(func() { m.Word(8) }) || m.Err() != nil {
		t.Errorf("try: %v", m.Err())
	}
}
