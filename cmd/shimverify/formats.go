// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"strings"

	"containerd-shim.v1/integration/harness"
)

// record is one result in the JSON report.
type record struct {
	Schema string `json:"schema"`
	Shim   string `json:"shim"`
	ID     string `json:"id"`
	Name   string `json:"name"`
	attempt
	Known harness.Verdict `json:"known,omitempty"`
	First *attempt        `json:"first,omitempty"` // of a check that was run once more, and counts by that
}

// attempt is one run of a check.
type attempt struct {
	Verdict  harness.Verdict `json:"verdict"`
	Seconds  float64         `json:"seconds"`
	Samples  []float64       `json:"samples,omitempty"` // seconds
	Messages []string        `json:"messages,omitempty"`
	Log      []string        `json:"log,omitempty"`
	Stacks   string          `json:"stacks,omitempty"`
}

func attemptOf(r harness.Result) attempt {
	a := attempt{Verdict: r.Verdict, Seconds: r.Duration.Seconds(), Messages: r.Messages, Log: r.Log, Stacks: r.Stacks}
	for _, s := range r.Samples {
		a.Samples = append(a.Samples, s.Seconds())
	}
	return a
}

func writeJSON(path string, out []outcome) error {
	records := []record{}
	for _, o := range out {
		r := record{Schema: "shimverify/v1", Shim: o.Shim, ID: o.Check.ID, Name: o.Check.Name, attempt: attemptOf(o.Result), Known: o.Known}
		if o.First != nil {
			first := attemptOf(*o.First)
			r.First = &first
		}
		records = append(records, r)
	}
	data, err := json.MarshalIndent(records, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// The JUnit format as CI servers read it: one suite for each shim.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Time     float64     `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    float64       `xml:"time,attr"`
		Failure *junitMessage `xml:"failure,omitempty"`
		Error   *junitMessage `xml:"error,omitempty"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes what counts by the rule: a failure in the file is one in the exit
// status. What else happened is in the output of its case.
func writeJUnit(path string, out []outcome, by rule) error {
	var doc junitSuites
	for _, shim := range shimsOf(out) {
		suite := junitSuite{Name: shim}
		for _, o := range out {
			if o.Shim != shim {
				continue
			}
			c := junitCase{Class: "shimverify." + o.Check.ID, Name: o.Check.Name, Time: o.Duration.Seconds(), Output: printable(junitOutput(o))}
			message := &junitMessage{Text: printable(strings.Join(o.Messages, "\n") + "\n" + o.Stacks)}
			if o.Verdict == harness.Pass {
				message.Message = "passes, but the release is known to fail"
			} else if len(o.Messages) > 0 {
				message.Message = printable(o.Messages[0])
			}
			switch by.of(o) {
			case failure:
				c.Failure = message
				suite.Failures++
			case unjudged:
				c.Error = message
				suite.Errors++
			}
			suite.Tests++
			suite.Time += c.Time
			suite.Cases = append(suite.Cases, c)
		}
		doc.Suites = append(doc.Suites, suite)
	}
	data, err := xml.MarshalIndent(doc, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append([]byte(xml.Header), append(data, '\n')...), 0o644)
}

// junitOutput is what a case has to say beside its failure: the verdict where that is not
// a pass, the first run where there were two, and the log.
func junitOutput(o outcome) string {
	var lines []string
	if o.Verdict != harness.Pass {
		lines = append(append(lines, "verdict: "+string(o.Verdict)), o.Messages...)
	}
	if o.First != nil {
		lines = append(append(lines, "run once more; the first run: "+string(o.First.Verdict)), o.First.Messages...)
	}
	return strings.Join(append(lines, o.Log...), "\n")
}

// printable leaves out what XML cannot hold.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
