// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"containerd-shim.v1/reaper"
)

// named is a process that has nothing but an id.
type named string

func (n named) ID() string { return string(n) }

const theInit = named("init")

// deaths is a source of exits.
type deaths struct {
	mu    sync.Mutex
	queue []reaper.Exit // guarded by mu
	ready chan struct{}
}

func (d *deaths) Ready() <-chan struct{} { return d.ready }
func (d *deaths) Pop() (reaper.Exit, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		return reaper.Exit{}, false
	}
	e := d.queue[0]
	d.queue = d.queue[1:]
	return e, true
}

// life is a container in fake time: its exits, and what was sent, and when.
type life struct {
	*exits
	deaths deaths
	conn   *conn // the daemon's
	began  time.Time
	seq    uint64
	sent   []string
}

// die lets a process die.
func (l *life) die(n named) {
	l.seq++
	l.dieAs(n, l.seq)
}

// dieAs delivers a death with the number seq, perhaps later than those after it.
func (l *life) dieAs(n named, seq uint64) {
	l.deaths.mu.Lock()
	l.deaths.queue = append(l.deaths.queue, reaper.Exit{Seq: seq, Owner: n})
	l.deaths.mu.Unlock()
	l.deaths.ready <- struct{}{}
	synctest.Wait()
}

// run starts a process, up to the reply, or, if asked, up to the daemon's State.
func (l *life) run(n named, asked bool) *start {
	st := l.begin(n, n == theInit, nil)
	l.ended(st, aliveProcess)
	l.answered(l.conn, "Start", n.ID())
	if asked {
		l.exits.asked(l.conn, n.ID())
	}
	return st
}

// TestExitsAreSentInTime checks what an exit waits for, and for how long. want has
// the exits that are sent, as ID@TIME. All time is synctest's, which passes when nothing else can go on.
func TestExitsAreSentInTime(t *testing.T) {
	l := DefaultLimits
	for _, c := range []struct {
		name string
		fn   func(l *life)
		want []string
	}{
		{"long after its start", func(l *life) { l.run("e", true); l.die("e") }, []string{"e@0s"}},
		{"of a start that nobody knows", func(l *life) { l.die("e") }, []string{"e@0s"}},
		{"asked later", func(l *life) {
			l.run("e", false)
			l.die("e")
			<-time.After(time.Second) // in fake time
			l.asked(l.conn, "e")
		}, []string{"e@1s"}},
		{"never asked", func(l *life) { l.run("e", false); l.die("e") }, []string{fmt.Sprint("e@", l.Asked)}},
		{"asked by another", func(l *life) { l.run("e", false); l.die("e"); l.asked(&conn{}, "e") }, []string{fmt.Sprint("e@", l.Asked)}},
		{"another one's State", func(l *life) { l.run("e", false); l.die("e"); l.asked(l.conn, "f") }, []string{fmt.Sprint("e@", l.Asked)}},
		{"asked before the reply", func(l *life) {
			l.ended(l.begin(named("e"), false, nil), aliveProcess)
			l.die("e")
			l.asked(l.conn, "e")
			l.answered(l.conn, "Start", "e")
		}, []string{fmt.Sprint("e@", l.Asked)}},
		{"asked before and after the reply, as by a client that polls", func(l *life) {
			l.ended(l.begin(named("e"), false, nil), aliveProcess)
			l.asked(l.conn, "e")
			l.die("e")
			l.answered(l.conn, "Start", "e")
			l.asked(l.conn, "e")
			l.asked(l.conn, "e")
		}, []string{fmt.Sprint("e@", l.Doubt)}},
		{"the daemon goes away before the reply", func(l *life) {
			l.ended(l.begin(named("e"), false, nil), aliveProcess)
			l.die("e")
			l.disconnected(l.conn, []string{"e"})
		}, []string{"e@0s"}},
		{"the daemon goes away", func(l *life) {
			l.run("e", false)
			l.die("e")
			<-time.After(time.Second) // in fake time
			l.disconnected(&conn{}, nil)
			synctest.Wait()
			l.disconnected(l.conn, nil)
		}, []string{"e@1s"}},
		{"no reply comes", func(l *life) { l.ended(l.begin(named("e"), false, nil), aliveProcess); l.die("e") }, []string{fmt.Sprint("e@", l.Reply)}},
		{"the caller got an error", func(l *life) {
			st := l.begin(named("e"), false, nil)
			l.ended(st, aliveProcess)
			l.die("e")
			l.settle(st)
		}, []string{"e@0s"}},
		{"of a start that failed", func(l *life) { l.ended(l.begin(named("e"), false, nil), noProcess); l.die("e") }, nil},
		{"deleted", func(l *life) { l.run("e", false); l.die("e"); l.forget(named("e")) }, []string{"e@0s"}},
		{"others pass", func(l *life) {
			l.run("e", false)
			l.run("f", true)
			l.die("e")
			l.die("f")
		}, []string{"f@0s", fmt.Sprint("e@", l.Asked)}},
		{"in the order of death", func(l *life) {
			for _, id := range []named{"a", "b", "c"} {
				l.run(id, false)
			}
			l.dieAs("c", 3)
			l.dieAs("a", 1)
			l.dieAs("b", 2)
			<-time.After(time.Second) // in fake time
			l.mu.Lock()
			for _, st := range l.starts {
				st.stage = settled
			}
			l.mu.Unlock()
			l.nudge()
		}, []string{"a@1s", "b@1s", "c@1s"}},
		{"init alone", func(l *life) { l.run(theInit, true); l.die(theInit); l.clear() }, []string{"init@0s"}},
		{"init, what is left is not killed", func(l *life) { l.run(theInit, true); l.die(theInit) }, []string{fmt.Sprint("init@", l.Reply)}},
		{"init after its execs", func(l *life) {
			l.run(theInit, true)
			l.run("e", true)
			l.die(theInit)
			l.clear()
			<-time.After(time.Second) // in fake time
			l.die("e")
		}, []string{"e@1s", "init@1s"}},
		{"init after a held one", func(l *life) {
			l.run(theInit, true)
			l.run("e", false)
			l.die("e")
			l.die(theInit)
			l.clear()
		}, []string{fmt.Sprint("e@", l.Reply), fmt.Sprint("init@", l.Reply)}},
		{"init before an exec that does not die", func(l *life) {
			l.run(theInit, true)
			l.run("e", true)
			l.die(theInit)
			l.clear()
		}, []string{fmt.Sprint("init@", l.Reply)}},
		{"init, a start on its way is refused", func(l *life) {
			l.run(theInit, true)
			st := l.begin(named("e"), false, nil)
			l.die(theInit)
			l.close()
			l.clear()
			<-time.After(time.Second) // in fake time
			if l.ended(st, aliveProcess) || l.begin(named("f"), false, nil) != nil {
				l.sent = append(l.sent, "an exec lives")
			}
			l.die("e")
		}, []string{"init@1s"}},
		{"init, an exec has ended before it", func(l *life) {
			l.run(theInit, true)
			st := l.begin(named("e"), false, nil)
			l.die("e")
			l.die(theInit)
			l.close()
			l.clear()
			<-time.After(time.Second) // in fake time
			if !l.ended(st, deadProcess) {
				l.sent = append(l.sent, "refused")
			}
			l.answered(l.conn, "Start", "e")
			l.asked(l.conn, "e")
		}, []string{"e@1s", "init@1s"}},
		{"init, an exec has ended before it and comes too late", func(l *life) {
			l.run(theInit, true)
			st := l.begin(named("e"), false, nil)
			l.die(theInit)
			l.close()
			l.clear()
			<-time.After(time.Minute) // in fake time
			if l.ended(st, deadProcess) {
				l.sent = append(l.sent, "not refused")
			}
			l.die("e")
		}, []string{fmt.Sprint("init@", l.Reply)}},
		{"all are settled", func(l *life) { l.run(theInit, false); l.die(theInit); l.clear(); l.settleAll() }, []string{"init@0s"}},
		{"init's own start hangs", func(l *life) { l.begin(theInit, true, nil); l.die(theInit); l.clear() }, []string{fmt.Sprint("init@", l.Reply)}},
		{"init's own start fails", func(l *life) { l.ended(l.begin(theInit, true, nil), noProcess); l.die(theInit); l.clear() }, []string{"init@0s"}},
		{"init is not asked for", func(l *life) { l.run(theInit, false); l.die(theInit); l.clear() }, []string{fmt.Sprint("init@", l.Asked)}},
		{"init created only", func(l *life) {
			l.ended(l.begin(theInit, true, nil), aliveProcess)
			l.answered(&conn{}, "Create", "init")
			l.die(theInit)
			l.clear()
		}, []string{"init@0s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &life{began: time.Now(), conn: &conn{}, deaths: deaths{ready: make(chan struct{}, 1)}}
				l.exits = newExits(DefaultLimits, func(owner, reaper.Exit) { panic("must not cost an exit") }, func(id string, _ reaper.Exit) {
					l.sent = append(l.sent, fmt.Sprint(id, "@", time.Since(l.began)))
				})
				ctx, cancel := context.WithCancel(t.Context())
				go l.exits.run(ctx, &l.deaths)
				c.fn(l)
				<-time.After(time.Hour) // in fake time
				cancel()
				synctest.Wait()
				if !slices.Equal(l.sent, c.want) {
					t.Errorf("sent %q, want %q", l.sent, c.want)
				}
				l.mu.Lock()
				defer l.mu.Unlock()
				if len(l.held) != 0 || l.last != nil {
					t.Errorf("still held: %v, %v", l.held, l.last)
				}
			})
		})
	}
}
