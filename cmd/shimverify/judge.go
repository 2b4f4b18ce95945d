// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strconv"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
)

// outcome is the result of one check on one shim.
type outcome struct {
	Shim  string
	Check catalogue.Check
	harness.Result
	Known    harness.Verdict // what the shim's release is known for; "": nothing
	Either   bool            // the release is known to do both
	First    *harness.Result // of a check that was run once more; nil if it was not
	notBegun bool            // the run was interrupted before
}

// surprising reports whether a release did not do what it is known for.
func (o outcome) surprising() bool { return o.Known != "" && o.Known != o.Verdict }

// rule is by what the outcomes of a run are judged.
type rule int

// The rules.
const (
	byVerdict rule = iota // a check that fails is a failure
	asKnown               // one that does otherwise than the release is known for
	noWorse               // one that fails where the release is not known to fail
)

func ruleOf(f runFlags) rule {
	switch {
	case f.better:
		return noWorse
	case f.expect:
		return asKnown
	}
	return byVerdict
}

// ruling is what an outcome is to the run.
type ruling int

// The rulings.
const (
	fine ruling = iota
	failure
	unjudged // the harness could not run it
)

// of returns the ruling on an outcome. Exit status and JUnit follow it, and nothing else.
// Where nothing is known of the release only a pass is fine; where it may do either, only
// asKnown takes a failure: a shim that repairs the release has no excuse.
func (by rule) of(o outcome) ruling {
	switch {
	case o.Verdict == harness.Broken:
		return unjudged
	case by == byVerdict && o.Verdict == harness.Fail,
		by == asKnown && o.surprising(),
		by == asKnown && o.Verdict == harness.Fail && o.Known == "" && !o.Either,
		by == noWorse && o.Verdict == harness.Fail && o.Known != harness.Fail:
		return failure
	}
	return fine
}

// judge returns an error if the run has failed.
func judge(out []outcome, by rule) error {
	var broken, failed int
	for _, o := range out {
		switch by.of(o) {
		case failure:
			failed++
		case unjudged:
			broken++
		}
	}
	switch {
	case failed > 0:
		return errFailed
	case broken > 0:
		return errors.New(strconv.Itoa(broken) + " checks could not be run")
	}
	return nil
}
