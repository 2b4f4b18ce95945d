// SPDX-License-Identifier: Apache-2.0

package goheap

// Entry is an entry of a map from strings to interfaces.
type Entry struct {
	Key  string
	Elem uint64 // the address of the interface
}

// Sizes in such a map. A slot is a string and an interface, two words each.
const (
	keySize  = 16
	slotSize = 32
	perGroup = 8 // slots in a group, or in a bucket
)

// Map returns the entries of the map at addr, which is the value of a variable of type
// map[string]I, in any order. I must be an interface type.
func (m *Memory) Map(addr uint64) (entries []Entry) {
	if addr == 0 {
		return nil
	}
	count := m.Word(addr) // the first word in both kinds
	if count > maxLength {
		m.Fail("a map of %d entries at %#x", count, addr)
		return nil
	}
	if m.era.swiss {
		entries = m.swiss(addr)
	} else {
		entries = m.buckets(addr)
	}
	if uint64(len(entries)) != count {
		m.Fail("a map with %d entries at %#x has %d", count, addr, len(entries))
	}
	return entries
}

// swiss reads a map of Go 1.24 and later (internal/runtime/maps): a directory of tables,
// each an array of groups, each with a control word; a small map is one group.
func (m *Memory) swiss(addr uint64) (entries []Entry) {
	dir, n := m.Word(addr+16), m.Word(addr+24)
	if n == 0 {
		if dir == 0 {
			return nil
		}
		return m.group(dir)
	}
	if n > maxLength {
		m.Fail("a map with a directory of %d", n)
		return nil
	}
	seen := map[uint64]bool{} // a table may be in the directory more than once
	for i := range n {
		table := m.Word(dir + 8*i)
		if seen[table] {
			continue
		}
		seen[table] = true
		groups, mask := m.Word(table+16), m.Word(table+24)
		if mask > maxLength {
			m.Fail("a map with %d groups", mask)
			return nil
		}
		for g := range mask + 1 {
			entries = append(entries, m.group(groups+g*(8+perGroup*slotSize))...)
		}
	}
	return entries
}

func (m *Memory) group(addr uint64) (entries []Entry) {
	for i, control := range m.Bytes(addr, perGroup) {
		if control&0x80 == 0 { // otherwise empty or deleted
			slot := addr + 8 + uint64(i)*slotSize
			entries = append(entries, Entry{m.String(slot), slot + keySize})
		}
	}
	return entries
}

// A bucket of a map before Go 1.24 (runtime/map.go).
const (
	minTopHash = 5 // a smaller one says that the slot is empty, or was moved
	bucketSize = perGroup + perGroup*slotSize + 8
	maxBuckets = 16 // the binary logarithm of their number
)

func (m *Memory) buckets(addr uint64) (entries []Entry) {
	b := m.Bytes(addr+9, 1)[0]
	if b > maxBuckets {
		m.Fail("a map with 2^%d buckets", b)
		return nil
	}
	read := func(array uint64, n uint64) {
		for i := range n {
			for bucket, chain := array+i*bucketSize, 0; bucket != 0; bucket = m.Word(bucket + bucketSize - 8) {
				if chain++; chain > maxLength || m.err != nil {
					m.Fail("a map with an endless bucket")
					return
				}
				for j, top := range m.Bytes(bucket, perGroup) {
					if top >= minTopHash {
						key := bucket + perGroup + uint64(j)*keySize
						entries = append(entries, Entry{m.String(key), bucket + perGroup + perGroup*keySize + uint64(j)*(slotSize-keySize)})
					}
				}
			}
		}
	}
	if buckets := m.Word(addr + 16); buckets != 0 {
		read(buckets, 1<<b)
	}
	if old := m.Word(addr + 24); old != 0 { // it is growing: these buckets may not have been moved yet
		n := uint64(1) << b
		if m.Bytes(addr+8, 1)[0]&sameSizeGrow == 0 {
			n >>= 1
		}
		read(old, n)
	}
	return entries
}

// sameSizeGrow is a flag of runtime.hmap.
const sameSizeGrow = 8
