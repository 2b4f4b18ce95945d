// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/sanitize"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
	"containerd-shim.v1/cmd/shimctl/internal/upstream"
)

// The results of an upgrade of one shim, as the JSON format has them.
const (
	resultCurrent    = "current"    // runs the new program already
	resultPossible   = "possible"   // a dry run found nothing against it
	resultRefused    = "refused"    // a rule or the kind of shim forbids it; nothing was tried
	resultBusy       = "busy"       // was at work for as long as it was tried, and the old program runs on; or the exchange is another one's
	resultFailed     = "failed"     // another reason; the old program runs on
	resultDone       = "upgraded"   // runs the new program, which answers
	resultUnanswered = "unanswered" // the new program does not answer, or nobody knows which one runs
	resultEnded      = "ended"      // has ended by itself meanwhile, with its container
	resultSkipped    = "skipped"    // not tried, after failures of others or a signal
)

// upgraded is what upgrade did with one shim.
type upgraded struct {
	result   string
	err      error             // why it was not done
	outcome  *takeover.Outcome // of an upstream shim, if it was done or looks possible
	version  string            // of this project's program, if a shim of this project exchanged it
	took     time.Duration     // ditto
	tried    bool              // an exchange was begun
	evidence string            // a directory, if something was saved
	todo     string            // the command that does it, after a dry run
}

// wrong reports whether it counts for -max-failures.
func (o *upgraded) wrong() bool { return o.result == resultFailed || o.result == resultUnanswered }

func (o *upgraded) status() int {
	switch o.result {
	case resultCurrent, resultDone:
		return exitOK
	case resultUnanswered:
		return exitUnverified
	}
	return exitSome
}

// detail is the result in words.
func (o *upgraded) detail() string {
	switch {
	case o.result == resultEnded:
		return "the shim has ended meanwhile"
	case o.result == resultUnanswered && o.evidence != "":
		return fmt.Sprintf("%v; evidence in %s", o.err, o.evidence)
	case o.result == resultUnanswered:
		return o.err.Error()
	case o.err != nil:
		return fmt.Sprintf("not upgraded: %v%s", o.err, hint(o.err))
	case o.result == resultCurrent:
		return "runs it already"
	case o.result == resultPossible && o.outcome == nil:
		return "runs this project's shim, and would be asked to exchange its program by itself"
	case o.result == resultPossible:
		return fmt.Sprintf("would take over %s; it would stand still for about %s", takenOver(o.outcome), o.outcome.Stopped.Round(time.Millisecond))
	case o.outcome == nil:
		return fmt.Sprintf("upgraded to %s in %s", o.version, o.took.Round(time.Millisecond))
	}
	return fmt.Sprintf("upgraded: %s; it stood still for %s and answered %s later", takenOver(o.outcome),
		o.outcome.Stopped.Round(100*time.Microsecond), o.outcome.Answered.Round(time.Millisecond))
}

// upgradeFormats print what was done with one shim, as soon as it is.
var upgradeFormats = map[string]func(program, *scan.Shim, *upgraded) error{
	"text": upgradeText,
	"json": upgradeJSON,
}

func upgradeText(p program, s *scan.Shim, o *upgraded) error {
	text := fmt.Sprintf("%s pid %d: %s\n", s.Name(), s.PID, o.detail())
	if o.todo != "" {
		text += "  to do it: " + o.todo + "\n"
	}
	if o.result == resultUnanswered {
		text = fmt.Sprintf("shimctl upgrade: %s pid %d: %s\n", s.Name(), s.PID, o.detail())
		_, err := fmt.Fprint(p.errs, text)
		return err
	}
	_, err := fmt.Fprint(p.out, text)
	return err
}

// upgradeJSON prints one object on one line, schema shimctl-upgrade/v1.
func upgradeJSON(p program, s *scan.Shim, o *upgraded) error {
	host, _ := os.Hostname() // an unnamed host is no reason to fail
	line := struct {
		Schema    string           `json:"schema"`
		Host      string           `json:"host"`
		Time      time.Time        `json:"time"`
		Namespace string           `json:"namespace"`
		ID        string           `json:"id"`
		PID       int              `json:"pid"`
		Result    string           `json:"result"`
		Detail    string           `json:"detail"`
		Evidence  string           `json:"evidence,omitempty"`
		StoppedMS float64          `json:"stopped_ms,omitempty"`
		AnswerMS  float64          `json:"answered_ms,omitempty"` // after it went on
		Taken     *upstream.Report `json:"taken_over,omitempty"`
	}{
		Schema: "shimctl-upgrade/v1", Host: host, Time: p.now().UTC(), Namespace: s.Namespace, ID: s.ID, PID: s.PID,
		Result: o.result, Detail: o.detail(), Evidence: o.evidence,
	}
	if o.outcome != nil {
		line.Taken = o.outcome.Report
		line.StoppedMS = float64(o.outcome.Stopped) / float64(time.Millisecond)
		line.AnswerMS = float64(o.outcome.Answered) / float64(time.Millisecond)
	}
	return json.NewEncoder(p.out).Encode(line)
}

// progress says on a terminal which shim is being upgraded; elsewhere it says nothing.
type progress struct {
	to    sanitize.Writer
	total int
}

func (b progress) shown() bool {
	f, ok := b.to.W.(*os.File)
	return ok && b.total > 1 && terminal(f)
}

func (b progress) at(i int, s *scan.Shim) {
	if b.shown() {
		_, _ = fmt.Fprintf(b.to.W, "%d of %d: ", i+1, b.total) // a terminal that is gone is no reason to stop
		_, _ = fmt.Fprintf(b.to, "%s pid %d", s.Name(), s.PID)
	}
}

// clear takes the line away before the result is printed.
func (b progress) clear() {
	if b.shown() {
		_, _ = fmt.Fprint(b.to.W, "\r\x1b[K") // as above
	}
}

// count returns the number and the noun that goes with it.
func count(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// takenOver says what is, or would be, taken over and lost.
func takenOver(o *takeover.Outcome) string {
	r := o.Report
	calls := map[string]int{}
	errs := 0
	var order []string
	for _, c := range r.Requests {
		if !c.Answered {
			errs++
			continue
		}
		if calls[c.Method] == 0 {
			order = append(order, c.Method)
		}
		calls[c.Method]++
	}
	text := fmt.Sprintf("%s (upstream %s)", count(r.Processes, "process", "processes"), r.Release)
	if len(order) > 0 {
		var parts []string
		for _, m := range order {
			parts = append(parts, fmt.Sprintf("%d %s", calls[m], m))
		}
		text += ", unanswered calls: " + strings.Join(parts, ", ")
	}
	if r.Exits > 0 {
		text += fmt.Sprintf(", %s to be published", count(r.Exits, "exit", "exits"))
	}
	lost := r.Lost
	if r.Unknown > 0 {
		lost = append(lost, "how "+count(r.Unknown, "process has", "processes have")+" ended")
	}
	if errs > 0 {
		lost = append(lost, "the results of "+count(errs, "call", "calls")+", answered with an error")
	}
	if len(lost) > 0 {
		text += "; lost: " + strings.Join(lost, ", ")
	}
	return text
}
