// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"containerd-shim/integration"
)

// report prints one result as one line, and what a person needs to judge a
// failure below it.
func report(w io.Writer, o outcome, verbose bool) {
	fmt.Fprintf(w, "%-6s %-5s %-48s %8s  %s\n", o.Verdict, o.Check.ID, o.Check.Name, o.Duration.Round(time.Millisecond), o.Shim)
	if o.Verdict != integration.Pass {
		for _, m := range o.Messages {
			fmt.Fprintf(w, "       %s\n", strings.ReplaceAll(m, "\n", "\n       "))
		}
	}
	if verbose {
		for _, l := range o.Log {
			fmt.Fprintf(w, "       | %s\n", strings.ReplaceAll(l, "\n", "\n       | "))
		}
		if o.Stacks != "" {
			fmt.Fprintf(w, "       stacks of the shim:\n%s\n", o.Stacks)
		}
	}
}

func summary(w io.Writer, out []outcome) {
	counts := map[string]map[integration.Verdict]int{}
	var order []string
	for _, o := range out {
		if counts[o.Shim] == nil {
			counts[o.Shim] = map[integration.Verdict]int{}
			order = append(order, o.Shim)
		}
		counts[o.Shim][o.Verdict]++
	}
	for _, shim := range order {
		c := counts[shim]
		fmt.Fprintf(w, "%s: %d pass, %d fail, %d could not be run\n", shim, c[integration.Pass], c[integration.Fail], c[integration.Broken])
	}
}

// record is one result in the JSON report.
type record struct {
	Schema   string              `json:"schema"`
	Shim     string              `json:"shim"`
	ID       string              `json:"id"`
	Name     string              `json:"name"`
	Verdict  integration.Verdict `json:"verdict"`
	Seconds  float64             `json:"seconds"`
	Messages []string            `json:"messages,omitempty"`
	Log      []string            `json:"log,omitempty"`
	Stacks   string              `json:"stacks,omitempty"`
}

func writeJSON(path string, out []outcome) error {
	records := []record{}
	for _, o := range out {
		records = append(records, record{
			Schema: "shimverify/v1", Shim: o.Shim, ID: o.Check.ID, Name: o.Check.Name, Verdict: o.Verdict,
			Seconds: o.Duration.Seconds(), Messages: o.Messages, Log: o.Log, Stacks: o.Stacks,
		})
	}
	data, err := json.MarshalIndent(records, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
