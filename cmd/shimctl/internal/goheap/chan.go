// SPDX-License-Identifier: Apache-2.0

package goheap

// Waiter is a goroutine that waits at a channel.
type Waiter struct {
	ID   uint64 // the goroutine's number, as a stack dump prints it
	Elem uint64 // the address of the element that it sends, or to which it receives
	Goroutine
}

// Chan is a channel.
type Chan struct {
	Queued     []uint64 // the addresses of the elements in it, the oldest first
	Receivers  []Waiter
	Senders    []Waiter
	ElemSize   int
	ClosedChan bool
}

// Chan reads the channel at addr, which is the value of a variable of type chan.
func (m *Memory) Chan(addr uint64) *Chan {
	c := &Chan{ElemSize: int(m.Uint32(addr+24) & 0xffff), ClosedChan: m.Uint32(addr+28) != 0}
	count, size, buf, first := m.Word(addr), m.Word(addr+8), m.Word(addr+16), m.Word(addr+m.era.recvx)
	if count > size || size > maxLength || first > size {
		m.Fail("a channel with %d of %d from %d at %#x", count, size, first, addr)
		return c
	}
	for i := range count {
		c.Queued = append(c.Queued, buf+(first+i)%size*uint64(c.ElemSize))
	}
	c.Receivers, c.Senders = m.waiters(addr+m.era.recvq), m.waiters(addr+m.era.recvq+16)
	return c
}

func (m *Memory) waiters(queue uint64) (list []Waiter) {
	for s := m.Word(queue); s != 0 && m.err == nil; s = m.Word(s + sudogNext) {
		g := m.Word(s + sudogG)
		list = append(list, Waiter{ID: m.Word(g + m.era.id), Elem: m.Word(s + m.era.elem), Goroutine: m.goroutine(g)})
		if len(list) > maxLength {
			m.Fail("too many goroutines at a channel")
		}
	}
	return list
}
