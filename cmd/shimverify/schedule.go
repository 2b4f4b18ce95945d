// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sync"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
)

// job is one check on one shim, once.
type job struct {
	cfg     harness.Config
	path    string // of the shim, as it was given
	name    string // of the case
	release string
	check   catalogue.Check
}

func (j job) run() outcome {
	return j.outcome(harness.Run(j.cfg, j.name, j.check.Limit, j.check.Run))
}

// notBegun is the outcome of a job that was not begun because the run was interrupted. It
// is one: a report in which a check is absent looks as if all were well.
func (j job) notBegun() outcome {
	o := j.outcome(harness.Result{Verdict: harness.Broken, Messages: []string{"not run: interrupted before"}})
	o.notBegun = true
	return o
}

func (j job) outcome(r harness.Result) outcome {
	known, _ := catalogue.Expected(j.release, j.check.ID)
	return outcome{Shim: j.path, Check: j.check, Result: r, Known: known, Either: catalogue.Either(j.release, j.check.ID)}
}

// plan lists the jobs in the order in which they are reported. It is an error
// if one of the shims cannot be tested at all.
func plan(cfg harness.Config, f runFlags, checks []catalogue.Check) ([]job, error) {
	var jobs []job
	for i, path := range f.shims {
		one, err := cfg.WithShim(path)
		if err == nil && f.v2 {
			one, err = one.AsV2()
		}
		if err != nil {
			return nil, err
		}
		release := f.release
		if release == "" {
			release = catalogue.Release(one.Shim)
		}
		if f.expect && release == "" {
			return nil, fmt.Errorf("%s: its release is not known (--release, one of %v)", path, catalogue.Releases())
		}
		if err := one.ProbeShim(); err != nil {
			return nil, err
		}
		for n := range f.count {
			for _, check := range checks {
				if !check.Asks(one.V2) {
					continue
				}
				jobs = append(jobs, job{one, path, fmt.Sprintf("%s-%d-%d", check.ID, i, n), release, check})
			}
		}
	}
	if len(jobs) == 0 {
		return nil, fmt.Errorf("%v: no check that %q matches is for shims of this kind", f.shims, f.only)
	}
	return jobs, nil
}

// heavyShare is how many light checks one heavy check counts for.
const heavyShare = 4

// work does the jobs, at most side at a time: first the light ones, then the
// heavy ones, fewer at a time, then those that have to be alone. It reports when each
// begins and when it has ended, one call at a time. There is an outcome for each
// job, in their order, also for those that were not begun because the run was interrupted.
func work(jobs []job, side int, begin func(job), end func(job, outcome)) []outcome {
	out := make([]outcome, len(jobs))
	for i, j := range jobs {
		out[i] = j.notBegun()
	}
	var telling sync.Mutex
	do := func(i int) {
		if jobs[i].cfg.Interrupted() {
			return
		}
		telling.Lock()
		begin(jobs[i])
		telling.Unlock()
		o := jobs[i].run()
		telling.Lock()
		defer telling.Unlock()
		out[i] = o
		end(jobs[i], o)
	}
	crew := func(size int, load catalogue.Load) {
		todo := make(chan int) // closed when each has been taken
		var workers sync.WaitGroup
		for range size {
			workers.Go(func() {
				for i := range todo {
					do(i)
				}
			})
		}
		for i, j := range jobs {
			if j.check.Load == load {
				todo <- i
			}
		}
		close(todo)
		workers.Wait()
	}
	crew(side, catalogue.Light)
	crew(max(1, side/heavyShare), catalogue.Heavy)
	crew(1, catalogue.Alone)
	return out
}
