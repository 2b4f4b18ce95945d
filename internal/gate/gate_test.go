// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"testing"
	"testing/synctest"
)

func TestNobodyIsInsideAShutGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		const n = 50
		sum, ended := 0, 0 // not guarded: the race detector tells if the gate is no barrier
		turn := make(chan struct{}, 1)
		for range n {
			go func() {
				g.Enter()
				defer g.Leave()
				for range 3 {
					turn <- struct{}{}
					sum++
					<-turn
					g.Pass()
				}
				turn <- struct{}{}
				ended++
				<-turn
			}()
		}
		g.Shut()
		g.Shut()
		synctest.Wait()
		if g.Inside() != 0 || ended == n {
			t.Fatalf("%d inside, %d ended", g.Inside(), ended)
		}
		was := sum
		synctest.Wait()
		if sum != was {
			t.Errorf("%d steps while shut", sum-was)
		}
		g.Open()
		g.Open()
		synctest.Wait()
		if sum != 3*n || ended != n || g.Inside() != 0 {
			t.Errorf("%d steps, %d ended, %d inside", sum, ended, g.Inside())
		}
	})
}

func TestNilGate(t *testing.T) {
	var g *Gate
	g.Enter()
	g.Pass()
	g.Leave()
}
