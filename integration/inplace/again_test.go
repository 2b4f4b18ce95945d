// SPDX-License-Identifier: Apache-2.0

package inplace_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/suite"
)

// swaps is how many TestAgainAndAgain makes; EXCHANGES is another number.
func swaps(t *testing.T) int {
	text := os.Getenv("EXCHANGES")
	if text == "" {
		return 30
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAgainAndAgain exchanges the program over and over under a stream of execs:
// each gets its own status and output, each exit is told once, nothing grows.
func TestAgainAndAgain(t *testing.T) {
	n := swaps(t)
	suite.Run(t, "again", limit+time.Duration(n)*6*time.Second, func(c *harness.Case) {
		b := c.Fixture(harness.Options{})
		b.Up()
		swap(c, b)
		fds, threads := len(fdsOf(c, b)), procfs.Count(b.Shim.Pid).Threads
		var over atomic.Bool
		var wg sync.WaitGroup
		var ran atomic.Int32
		for worker := range 3 {
			wg.Go(func() {
				for i := 0; !over.Load(); i++ {
					one(c, b, fmt.Sprintf("e%d-%d", worker, i), uint32(1+i%100))
					ran.Add(1)
				}
			})
		}
		var took []time.Duration
		refused := 0
		for len(took) < n {
			start := time.Now()
			err := exchange(b, c.Shim)
			if status.Code(err) == codes.Unavailable && refused < n {
				refused++ // it is at work: starts may take too long, a request be half read
				continue
			}
			c.Need(err, "exchange the program")
			took = append(took, time.Since(start))
			if len(took)%100 == 0 {
				c.Logf("%d exchanges, %d execs", len(took), ran.Load())
			}
		}
		over.Store(true)
		wg.Wait()
		slices.Sort(took)
		c.Logf("%d exchanges, %v each at the median, %v at most; %d more were refused; %d execs", n, took[n/2], took[n-1], refused, ran.Load())
		if more := len(fdsOf(c, b)); more > fds {
			c.Errorf("%d descriptors, %d before", more, fds)
		}
		if more := procfs.Count(b.Shim.Pid).Threads; more > threads+6 {
			c.Errorf("%d threads, %d before", more, threads)
		}
		told := map[string]int{}
		for _, e := range b.Daemon.Events() {
			told[e.Exit.GetID()]++
		}
		for id, times := range told {
			if times != 1 {
				c.Errorf("the exit of %s was told %d times", id, times)
			}
		}
		if len(told) != int(ran.Load()) {
			c.Errorf("%d exits were told, %d execs ran", len(told), ran.Load())
		}
		ends(c, b)
	})
}

func fdsOf(c *harness.Case, b *harness.Fixture) []os.DirEntry {
	fds, err := os.ReadDir(procfs.File(b.Shim.Pid, "fd"))
	c.Need(err, "descriptors")
	return fds
}

// one runs one exec as a client does.
func one(c *harness.Case, b *harness.Fixture, id string, status uint32) {
	patient := b.Within(soon)
	out, err := harness.NewStream(c.Dir, id)
	c.Need(err, "make FIFO")
	out.Read()
	defer out.Close()
	c.Must(b.Exec(id, harness.IO{Stdout: out.Path}, "print:3000", fmt.Sprint("exit:", status)), "Exec")
	_, err = patient.Start(id)
	c.Must(err, "Start of "+id)
	w, err := patient.Wait(id)
	c.Must(err, "Wait of "+id)
	if w.GetExitStatus() != status {
		c.Errorf("%s: status %d, want %d", id, w.GetExitStatus(), status)
	}
	c.Await(soon, "exit of "+id, func() bool { return len(b.Daemon.ExitsOf(id)) > 0 })
	_, err = patient.DeleteProcess(id)
	c.Must(err, "DeleteProcess of "+id)
	c.Await(soon, "end of the output", out.Ended)
	if err := out.Matches(3000); err != nil {
		c.Errorf("%s: %v", id, err)
	}
}

// TestStandStill measures for how long a call is not answered because of an
// exchange: a client on a connection of its own asks without a pause.
func TestStandStill(t *testing.T) {
	const n, usual, most = 20, time.Second, 5 * time.Second // once the machine may be busy
	run(t, "still", func(c *harness.Case, b *harness.Fixture) {
		for i := range 5 {
			b.MustExec(fmt.Sprint("e", i), harness.IO{}, "sleep")
		}
		var longest []time.Duration
		for range n {
			exchanged := make(chan error, 1)
			go func() { exchanged <- exchange(b, c.Shim) }()
			var max time.Duration
			for done := false; !done; {
				start := time.Now()
				_, err := b.ShimInfo()
				c.Must(err, "ShimInfo")
				if took := time.Since(start); took > max {
					max = took
				}
				select {
				case err := <-exchanged:
					c.Need(err, "exchange the program")
					done = true
				default:
				}
			}
			longest = append(longest, max)
		}
		slices.Sort(longest)
		c.Logf("the longest answer during each of %d exchanges: %v at the median, %v at most", n, longest[n/2], longest[n-1])
		if longest[n/2] > usual || longest[n-1] > most {
			c.Errorf("an answer took %v at the median and %v at most, want %v and %v", longest[n/2], longest[n-1], usual, most)
		}
	})
}
