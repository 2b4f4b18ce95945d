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
	Schema   string          `json:"schema"`
	Shim     string          `json:"shim"`
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Verdict  harness.Verdict `json:"verdict"`
	Known    harness.Verdict `json:"known,omitempty"`
	Seconds  float64         `json:"seconds"`
	Samples  []float64       `json:"samples,omitempty"` // seconds
	Messages []string        `json:"messages,omitempty"`
	Log      []string        `json:"log,omitempty"`
	Stacks   string          `json:"stacks,omitempty"`
}

func writeJSON(path string, out []outcome) error {
	records := []record{}
	for _, o := range out {
		r := record{
			Schema: "shimverify/v1", Shim: o.Shim, ID: o.Check.ID, Name: o.Check.Name, Verdict: o.Verdict, Known: o.Known,
			Seconds: o.Duration.Seconds(), Messages: o.Messages, Log: o.Log, Stacks: o.Stacks,
		}
		for _, s := range o.Samples {
			r.Samples = append(r.Samples, s.Seconds())
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

func writeJUnit(path string, out []outcome) error {
	var doc junitSuites
	for _, shim := range shimsOf(out) {
		suite := junitSuite{Name: shim}
		for _, o := range out {
			if o.Shim != shim {
				continue
			}
			c := junitCase{Class: "shimverify." + o.Check.ID, Name: o.Check.Name, Time: o.Duration.Seconds(), Output: printable(strings.Join(o.Log, "\n"))}
			message := &junitMessage{Text: printable(strings.Join(o.Messages, "\n") + "\n" + o.Stacks)}
			if len(o.Messages) > 0 {
				message.Message = printable(o.Messages[0])
			}
			switch o.Verdict {
			case harness.Fail:
				c.Failure = message
				suite.Failures++
			case harness.Broken:
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

// printable leaves out what XML cannot hold.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
