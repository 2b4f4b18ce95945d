// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// verdict of one scenario under one pair.
type verdict string

const (
	passed verdict = "passed"
	failed verdict = "failed"
	notRun verdict = "not run"
)

// result is a line that the child of a pair writes, and that the record keeps.
type result struct {
	Pair     string  `json:"pair"`
	Scenario string  `json:"scenario"`
	Verdict  verdict `json:"verdict"`
	Reason   string  `json:"reason,omitempty"`
	Took     string  `json:"took,omitempty"`     // of the host's time, on another kernel
	Revision string  `json:"revision,omitempty"` // of the shim, as it says itself; older lines have none
}

// remark is what a scenario returns that has passed, but not as everywhere else.
type remark string

func (r remark) Error() string { return string(r) }

// judge makes the result of what a scenario has returned.
func judge(pair, scenario string, err error) result {
	r := result{Pair: pair, Scenario: scenario, Verdict: passed}
	var note remark
	switch {
	case errors.As(err, &note):
	case errors.Is(err, errNotRun):
		r.Verdict = notRun
	case err != nil:
		r.Verdict = failed
	}
	if err != nil {
		text := strings.TrimPrefix(err.Error(), errNotRun.Error()+": ")
		r.Reason = strings.Join(strings.Fields(text), " ")
	}
	return r
}

func (r result) write(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// line is what the terminal shows of a result.
func (r result) line(took time.Duration) string {
	return strings.TrimRight(fmt.Sprintf("%-8s %-36s %-10s %5.1fs  %s", r.Verdict, r.Pair, r.Scenario, took.Seconds(), r.Reason), " ")
}
