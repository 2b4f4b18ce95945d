// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/rounds"
	"containerd-shim.v1/cmd/shimctl/internal/sanitize"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// formats print a round.
var formats = map[string]func(io.Writer, *rounds.Round) error{
	"table":  tableFormat,
	"json":   jsonFormat,
	"npd":    npdFormat,
	"prom":   promFormat,
	"nagios": nagiosFormat,
}

func tableFormat(to io.Writer, r *rounds.Round) error {
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tCONTAINER\tPID\tINIT\tAGE\tBUILD\tZOMBIES\tSHIMINFO\tSTATE\tVERDICT\tREASON\tDETAIL")
	for _, s := range r.Rows {
		verdict := string(s.Result.Verdict)
		if s.Result.Confirmed {
			verdict += "!" // proven by its stacks
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", s.Namespace, shorten(s.ID), s.PID, initOf(s.Shim), age(s.Age), build(s.Shim),
			len(s.Zombies), answer(s.Answers.ShimInfo), answer(s.Answers.State), verdict, dash(s.Result.Reason), dash(sanitize.Line(s.Result.Detail)))
	}
	return w.Flush()
}

func answer(a probe.Answer) string {
	switch {
	case !a.Asked:
		return "-"
	case a.TimedOut:
		return "timeout"
	case !a.OK:
		return "error"
	}
	return fmt.Sprintf("%.1fms", float64(a.Took)/float64(time.Millisecond))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// jsonShim is a row of the JSON format, schema shimctl/v1.
type jsonShim struct {
	scan.Shim
	RPC struct {
		ShimInfoMS float64 `json:"shiminfo_ms"`
		ShimInfo   string  `json:"shiminfo"` // ok, timeout, error or empty when not asked
		StateMS    float64 `json:"state_ms"`
		State      string  `json:"state"`
	} `json:"rpc"`
	Verdict   health.Verdict `json:"verdict"`
	Reason    string         `json:"reason,omitempty"`
	Detail    string         `json:"detail,omitempty"`
	Confirmed bool           `json:"confirmed"`
	Since     *time.Time     `json:"since,omitempty"`
}

func jsonFormat(to io.Writer, r *rounds.Round) error {
	host, _ := os.Hostname() // an unnamed host is no reason to fail
	doc := struct {
		Schema  string         `json:"schema"`
		Host    string         `json:"host"`
		Time    time.Time      `json:"time"`
		Shims   []jsonShim     `json:"shims"`
		Summary map[string]int `json:"summary"`
	}{"shimctl/v1", host, r.Time.UTC(), []jsonShim{}, map[string]int{
		"healthy": r.Count(health.Healthy), "suspect": r.Count(health.Suspect), "wedged": r.Count(health.Wedged),
	}}
	for _, s := range r.Rows {
		j := jsonShim{Shim: s.Shim, Verdict: s.Result.Verdict, Reason: s.Result.Reason, Detail: s.Result.Detail, Confirmed: s.Result.Confirmed}
		j.RPC.ShimInfo, j.RPC.ShimInfoMS = outcome(s.Answers.ShimInfo)
		j.RPC.State, j.RPC.StateMS = outcome(s.Answers.State)
		if !s.Result.Since.IsZero() {
			since := s.Result.Since.UTC()
			j.Since = &since
		}
		doc.Shims = append(doc.Shims, j)
	}
	enc := json.NewEncoder(to)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

func outcome(a probe.Answer) (string, float64) {
	ms := float64(a.Took) / float64(time.Millisecond)
	switch {
	case !a.Asked:
		return "", 0
	case a.TimedOut:
		return "timeout", ms
	case !a.OK:
		return "error", ms
	}
	return "ok", ms
}

// npdFormat prints one line, of which node-problem-detector keeps 80 bytes.
func npdFormat(to io.Writer, r *rounds.Round) error {
	line := fmt.Sprintf("%d shims healthy", len(r.Rows))
	if n := r.Count(health.Wedged); n > 0 {
		line = fmt.Sprintf("%d/%d shims wedged: %s", n, len(r.Rows), first(r, health.Wedged))
	} else if n := r.Count(health.Suspect); n > 0 {
		line = fmt.Sprintf("%d/%d shims suspect: %s", n, len(r.Rows), first(r, health.Suspect))
	}
	_, err := fmt.Fprintln(to, line[:min(len(line), 80)])
	return err
}

func nagiosFormat(to io.Writer, r *rounds.Round) error {
	level, what := "OK", fmt.Sprintf("%d shims healthy", len(r.Rows))
	wedged, suspect := r.Count(health.Wedged), r.Count(health.Suspect)
	switch {
	case wedged > 0:
		level, what = "CRITICAL", first(r, health.Wedged)
	case suspect > 0:
		level, what = "WARNING", first(r, health.Suspect)
	}
	_, err := fmt.Fprintf(to, "SHIMS %s - %s | shims=%d wedged=%d suspect=%d\n", level, what, len(r.Rows), wedged, suspect)
	return err
}

// promFormat prints Prometheus's text format. A series for each shim would mean
// one for each container that ever ran, so only wedged shims get their own.
func promFormat(to io.Writer, r *rounds.Round) error {
	var b []byte
	add := func(format string, args ...any) { b = fmt.Appendf(b, format, args...) }
	add("# HELP containerd_shims Number of v1 shims by verdict.\n# TYPE containerd_shims gauge\n")
	for _, v := range []health.Verdict{health.Healthy, health.Suspect, health.Wedged} {
		add("containerd_shims{verdict=%q} %d\n", strings.ToLower(string(v)), r.Count(v))
	}
	add("# HELP containerd_shim_wedged Shims that are wedged, with the reason.\n# TYPE containerd_shim_wedged gauge\n")
	zombies, unpatched := 0, 0
	seen := map[string]bool{} // a second process with the same names would make the file invalid
	for _, s := range r.Rows {
		zombies = max(zombies, len(s.Zombies))
		if !s.Build.Ours {
			unpatched++
		}
		if s.Result.Verdict == health.Wedged {
			series := fmt.Sprintf("containerd_shim_wedged{namespace=%s,id=%s,reason=%s}", label(s.Namespace), label(s.ID), label(s.Result.Reason))
			if !seen[series] {
				add("%s 1\n", series)
			}
			seen[series] = true
		}
	}
	add("# HELP containerd_shim_zombies_max Unreaped children of the shim that has most.\n# TYPE containerd_shim_zombies_max gauge\ncontainerd_shim_zombies_max %d\n", zombies)
	add("# HELP containerd_shim_unpatched Shims that are not this project's.\n# TYPE containerd_shim_unpatched gauge\ncontainerd_shim_unpatched %d\n", unpatched)
	add("# HELP containerd_shim_scan_timestamp_seconds When the shims were checked.\n# TYPE containerd_shim_scan_timestamp_seconds gauge\ncontainerd_shim_scan_timestamp_seconds %d\n", r.Time.Unix())
	add("# HELP containerd_shim_scan_duration_seconds How long that took.\n# TYPE containerd_shim_scan_duration_seconds gauge\ncontainerd_shim_scan_duration_seconds %.3f\n", r.Took.Seconds())
	_, err := to.Write(b)
	return err
}

// label quotes a label's value with the format's three escapes.
func label(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// first is the first row with the verdict, for one-line formats; "" if there is none.
func first(r *rounds.Round, v health.Verdict) string {
	for _, row := range r.Rows {
		if row.Result.Verdict == v {
			return fmt.Sprintf("%s/%s pid %d %s", row.Namespace, shorten(row.ID), row.PID, row.Result.Reason)
		}
	}
	return ""
}
