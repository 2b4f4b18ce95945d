// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/atomicfile"
)

// OptOut is the annotation in a container's config.json that keeps repair
// away, with the value "never".
const OptOut = "shimctl.repair"

// Refuse returns why a shim must not be repaired, or "".
func (p *Policy) Refuse(root string, c *Case) string {
	switch {
	case c.Shim.Kind != scan.V1:
		return "it is no v1 shim"
	case c.Shim.Build.Ours:
		return "it is this project's shim: a wedge of it is a new bug; please send `shimctl report`"
	case c.Result.Verdict != health.Wedged:
		return "it is " + string(c.Result.Verdict)
	case !c.Result.Confirmed && !p.Unproven:
		return "no dump proves the wedge (" + c.Result.Reason + "); -unproven acts all the same"
	case len(p.Reasons) > 0 && !slices.Contains(p.Reasons, c.Result.Reason):
		return "its reason " + c.Result.Reason + " is not in -on-reason"
	}
	return OptedOut(root, c.Shim.PID)
}

// OptedOut returns why the container's own annotation forbids a repair, or "". It
// does so, too, if config.json exists and cannot be read.
func OptedOut(root string, pid int) string {
	b, err := scan.ReadFile(filepath.Join(root, strconv.Itoa(pid), "cwd", "config.json"), scan.MaxFile)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err == nil {
		err = json.Unmarshal(b, &spec)
	}
	switch {
	case err != nil:
		return fmt.Sprintf("whether its annotation %s says never cannot be read: %v", OptOut, err)
	case spec.Annotations[OptOut] == "never":
		return "the container's annotation " + OptOut + " says never"
	}
	return ""
}

// Entry is one repair in the ledger.
type Entry struct {
	Time   time.Time `json:"time"`
	Shim   string    `json:"shim"`
	PID    int       `json:"pid"`
	Reason string    `json:"reason"`
	Result string    `json:"result"`
}

// The results of a repair. An exchange or a kill is Running in the ledger until it is verified; one
// that stays so was cut short.
const (
	Running  = "running"
	Repaired = "repaired"
	Failed   = "failed"
)

// Outcome returns the result as a counter may have it: "" for a repair that may
// still be running. If it were counted as failed first, and that were taken back
// later, an alarm would go off.
func (e *Entry) Outcome(now time.Time) string {
	const longest = time.Hour // that a repair may take, -verify included
	switch {
	case e.Result != Running:
		return e.Result
	case now.Sub(e.Time) > longest:
		return Failed
	}
	return ""
}

// Ledger is the list of repairs on this host.
type Ledger struct {
	name string
	// Entries are the newest.
	Entries []Entry `json:"entries"`
	// Forgotten counts the results of older ones: a counter must not go back.
	Forgotten map[string]int `json:"forgotten,omitempty"`
}

// kept bounds the number of entries in the ledger.
const kept = 1000

// OpenLedger reads the ledger. One that cannot be read is an error: the limits
// depend on it.
func OpenLedger(name string) (*Ledger, error) {
	l := &Ledger{name: name}
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(b, l)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", name, err)
	}
	return l, nil
}

// Add appends an entry and writes the ledger. After an error it has no such entry.
func (l *Ledger) Add(e Entry) error {
	before := *l
	l.Entries = append(slices.Clone(before.Entries), e)
	l.Forgotten = maps.Clone(before.Forgotten)
	for ; len(l.Entries) > kept; l.Entries = l.Entries[1:] {
		if l.Forgotten == nil {
			l.Forgotten = map[string]int{}
		}
		l.Forgotten[cmp.Or(l.Entries[0].Outcome(e.Time), Failed)]++
	}
	err := l.write()
	if err != nil {
		*l = before
	}
	return err
}

// Count returns how many repairs have ended so far, by result.
func (l *Ledger) Count(now time.Time) map[string]int {
	n := maps.Clone(l.Forgotten)
	if n == nil {
		n = map[string]int{}
	}
	for _, e := range l.Entries {
		n[e.Outcome(now)]++
	}
	return n
}

// Finish writes the outcome of the last entry.
func (l *Ledger) Finish(result string) error {
	l.Entries[len(l.Entries)-1].Result = result
	return l.write()
}

// Drop takes the last entry back: nothing was done after all.
func (l *Ledger) Drop() error {
	l.Entries = l.Entries[:len(l.Entries)-1]
	return l.write()
}

func (l *Ledger) write() error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.name), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteDurable(l.name, b, 0o600)
}

// Wait returns why no repair is allowed now, or "".
func (p *Policy) Wait(l *Ledger, now time.Time) string {
	lastHour := 0
	for _, e := range l.Entries {
		switch ago := now.Sub(e.Time); {
		case ago < 0: // the clock was set back: nobody knows when that was
		case ago < p.Cooldown:
			return fmt.Sprintf("the last repair was %s ago, the cool-down is %s", ago.Round(time.Second), p.Cooldown)
		case ago < time.Hour:
			lastHour++
		}
	}
	if lastHour >= p.PerHour {
		return fmt.Sprintf("%d repairs in the last hour, the cap is %d: find the cause first", lastHour, p.PerHour)
	}
	return ""
}
