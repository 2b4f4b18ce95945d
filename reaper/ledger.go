// SPDX-License-Identifier: Apache-2.0

package reaper

import "time"

// maxKept bounds the ledger: while a start hangs, for hours if it is a restore, a
// container without a pid namespace may leave orphans to the shim as fast as it can
// fork. If that many unclaimed exits come between the death of a process and its Claim,
// its exit is gone, and Claim fails with ErrNotChild.
const maxKept = 1 << 16

// ledger keeps the exits that nobody has claimed yet, by pid; of more than maxKept, the
// latest. The zero value is empty and ready for use. It has no lock of its own.
type ledger struct {
	byPid map[int][]Exit
	// order lists what was added, oldest first; entries that were taken stay
	// in it until they are the oldest.
	order []keptKey
}

type keptKey struct {
	seq uint64
	pid int
}

func (l *ledger) add(e Exit) {
	if l.byPid == nil {
		l.byPid = make(map[int][]Exit)
	}
	l.byPid[e.Pid] = append(l.byPid[e.Pid], e)
	l.order = append(l.order, keptKey{e.Seq, e.Pid})
	if len(l.order) > maxKept {
		l.dropBefore(l.order[0].seq + 1)
	}
}

// take removes and returns the exit of pid that belongs to a process which was
// alive at since and was started after ticket number from. That is the first
// exit at or after since: an earlier one belongs to an earlier process with the
// same pid, a later one to a later process. If since is zero, it is the latest.
func (l *ledger) take(pid int, from uint64, since time.Time) (Exit, bool) {
	entries := l.byPid[pid]
	for i, k := range entries {
		if k.Seq < from || k.At.Before(since) {
			continue
		}
		if since.IsZero() && i != len(entries)-1 {
			continue
		}
		l.remove(pid, i)
		return k, true
	}
	return Exit{}, false
}

func (l *ledger) remove(pid, i int) {
	entries := l.byPid[pid]
	if len(entries) == 1 {
		delete(l.byPid, pid)
		return
	}
	l.byPid[pid] = append(entries[:i:i], entries[i+1:]...)
}

// dropBefore forgets every exit older than seq.
func (l *ledger) dropBefore(seq uint64) {
	n := 0
	for n < len(l.order) && l.order[n].seq < seq {
		k := l.order[n]
		for i, e := range l.byPid[k.pid] {
			if e.Seq == k.seq {
				l.remove(k.pid, i)
				break
			}
		}
		n++
	}
	l.order = l.order[n:]
	if len(l.order) == 0 {
		*l = ledger{} // give a burst's memory back
	}
}

// len returns how many exits are kept.
func (l *ledger) len() int {
	n := 0
	for _, e := range l.byPid {
		n += len(e)
	}
	return n
}
