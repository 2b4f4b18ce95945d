// SPDX-License-Identifier: Apache-2.0

// Package gate stops goroutines at places of their own choice, so that what they
// own can be looked at, and none of them is in the middle of anything.
package gate

import "sync"

// Gate is passed by goroutines that must not be cut short: each is inside from
// Enter to Leave. The zero value is open, and so is a nil Gate, which counts
// nobody and is never shut.
type Gate struct {
	mu sync.Mutex
	// +checklocks:mu
	shut chan struct{} // closed by Open; nil while the gate is open
	// +checklocks:mu
	inside int
}

// Enter waits until the gate is open.
func (g *Gate) Enter() {
	if g == nil {
		return
	}
	for {
		shut := g.enter()
		if shut == nil {
			return
		}
		<-shut
	}
}

func (g *Gate) enter() (shut <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.inside++
	}
	return g.shut
}

// Leave undoes Enter.
func (g *Gate) Leave() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
}

// Pass makes the caller, who is inside, wait while the gate is shut.
func (g *Gate) Pass() {
	g.Leave()
	g.Enter()
}

// IsShut reports whether Enter would wait.
func (g *Gate) IsShut() bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut != nil
}

// Shut makes Enter wait from now on. Who is inside stays there. It may be
// repeated.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
}

// Open undoes Shut. It may be repeated.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// Inside returns how many are inside. Once it is 0 while the gate is shut it stays
// so, and what they did inside has happened before Inside returns.
func (g *Gate) Inside() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside
}
