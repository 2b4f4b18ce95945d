// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed" // for the page
	"fmt"
	"html/template"
	"os"
	"slices"
	"strings"
	"time"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is what the template shows.
type page struct {
	Made  string
	Shims []pageShim
	Rows  []pageRow
	Plots []plot
}

type pageShim struct {
	Number               int
	Path                 string
	Pass, Fail, Unjudged int
	Took                 time.Duration
	Colour               string
}

type pageRow struct {
	Check       catalogue.Check
	Conformance bool
	Cells       []pageCell
	Details     []outcome // those that failed
}

type pageCell struct{ Class, Text, Title string }

// colours of the shims' lines: apart for eyes that see red and green alike.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#a05a00"}

func colour(i int) string { return colours[i%len(colours)] }

func writeHTML(path string, out []outcome) error {
	p := page{Made: time.Now().UTC().Format("2006-01-02 15:04 UTC")}
	shims := shimsOf(out)
	for i, s := range shims {
		ps := pageShim{Number: i + 1, Path: s, Colour: colour(i)}
		for _, o := range out {
			if o.Shim != s {
				continue
			}
			ps.Took += o.Duration
			switch o.Verdict {
			case harness.Pass:
				ps.Pass++
			case harness.Fail:
				ps.Fail++
			default:
				ps.Unjudged++
			}
		}
		ps.Took = ps.Took.Round(time.Second)
		p.Shims = append(p.Shims, ps)
	}
	for _, c := range checksOf(out) {
		p.Rows = append(p.Rows, rowOf(out, shims, c))
		if pl, ok := plotOf(out, shims, c); ok {
			p.Plots = append(p.Plots, pl)
		}
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func rowOf(out []outcome, shims []string, c catalogue.Check) pageRow {
	row := pageRow{Check: c, Conformance: catalogue.Conformance(c.ID)}
	for _, s := range shims {
		n := verdicts(out, s, c.ID)
		one := pageCell{Class: "pass", Text: cell(n)}
		switch {
		case n[harness.Fail] > 0:
			one.Class = "fail"
		case n[harness.Broken] > 0:
			one.Class = "broken"
		case len(n) == 0:
			one.Class = ""
		}
		for _, o := range out {
			if o.Shim == s && o.Check.ID == c.ID {
				one.Title = o.Duration.Round(time.Millisecond).String()
				if o.First != nil {
					one.Text += " (first run: " + string(o.First.Verdict) + ")"
				}
				if o.surprising() {
					one.Text += " (known: " + string(o.Known) + ")"
				}
			}
		}
		row.Cells = append(row.Cells, one)
	}
	for _, o := range out {
		if o.Check.ID != c.ID {
			continue
		}
		if o.First != nil {
			first := o
			first.Result = *o.First
			row.Details = append(row.Details, first)
		}
		if o.Verdict != harness.Pass {
			row.Details = append(row.Details, o)
		}
	}
	return row
}

// plot is the distribution of one check's samples: how many operations had
// ended after how long, one line for each shim.
type plot struct {
	Title  string
	Width  int
	Height int
	Lines  []plotLine
	Ticks  []plotTick
}

type plotLine struct{ Colour, Points, Name string }
type plotTick struct {
	X    float64
	Text string
}

const plotWidth, plotHeight = 640, 160

func plotOf(out []outcome, shims []string, c catalogue.Check) (plot, bool) {
	p := plot{Title: c.ID + " " + c.Name, Width: plotWidth, Height: plotHeight}
	longest := time.Duration(0)
	for _, o := range out {
		if o.Check.ID == c.ID && len(o.Samples) > 0 {
			longest = max(longest, slices.Max(o.Samples))
		}
	}
	if longest == 0 {
		return p, false
	}
	x := func(d time.Duration) float64 { return 30 + float64(plotWidth-60)*float64(d)/float64(longest) }
	for i, s := range shims {
		for _, o := range out {
			if o.Shim != s || o.Check.ID != c.ID || len(o.Samples) == 0 {
				continue
			}
			sorted := slices.Sorted(slices.Values(o.Samples))
			var points strings.Builder
			for n, d := range sorted {
				y := plotHeight - 25 - float64(plotHeight-40)*float64(n+1)/float64(len(sorted))
				fmt.Fprintf(&points, "%.1f,%.1f ", x(d), y)
			}
			p.Lines = append(p.Lines, plotLine{colour(i), points.String(), s})
		}
	}
	for n := range 5 {
		d := longest * time.Duration(n) / 4
		p.Ticks = append(p.Ticks, plotTick{x(d), d.Round(10 * time.Millisecond).String()})
	}
	return p, true
}
