// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"cmp"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
)

// Size of a plot, in SVG's units; the margin is for the figures beside the axes.
const (
	plotWidth, plotHeight, plotMargin = 860, 180, 50
)

// colours of the containers, in turns.
var colours = []string{"#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#9a6700"}

var chaosPage = template.Must(template.New("chaos").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Chaos: {{.Title}}</title>
<style>body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}svg{display:block}.bad{color:#b00}</style>
<h1>{{.Title}}</h1>
<p>{{.Summary}}</p>
{{if .Problems}}<ul class="bad">{{range .Problems}}<li>{{.}}</li>{{end}}</ul>{{else}}<p>No problem.</p>{{end}}
{{range .Plots}}<h2>{{.Name}}</h2>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 180" font-size="11">
<path d="{{.Axes}}" fill="none" stroke="#888"/>
<text x="45" y="15" text-anchor="end">{{.Top}}</text><text x="45" y="132" text-anchor="end">0</text>
<text x="50" y="145">0</text><text x="850" y="145" text-anchor="end">{{.End}}</text>
{{range $i, $l := .Lines}}<path d="{{.Path}}" fill="none" stroke="{{.Colour}}"{{if .Fitted}} stroke-dasharray="4 3"{{end}}/>
{{if not .Fitted}}<text x="{{.X}}" y="170" fill="{{.Colour}}">{{.Name}}</text>
{{end}}{{end}}</svg>
{{end}}
<p>Dashed: the straight line through the second half, by least squares.</p>
<table><tr><th>container</th><th>figure</th><th>samples</th><th>mean</th><th>rises by</th><th></th></tr>
{{range .Slopes}}<tr><td>{{.Container}}</td><td>{{.What}}</td><td>{{.N}}</td><td>{{printf "%.1f" .Mean}}</td><td>{{printf "%.2f" .Rise}}</td><td>{{if .Grows}}grows{{end}}</td></tr>
{{end}}</table>
</html>
`))

type plot struct {
	Name, Axes, Top, End string
	Lines                []plotLine
}

type plotLine struct {
	Name, Path, Colour string
	X                  int // of the name
	Fitted             bool
}

// WriteHTML writes the report as a page, with what the shims had over time.
func (r *ChaosReport) WriteHTML(w io.Writer, title string) error {
	var plots []plot
	for _, m := range measures {
		plots = append(plots, r.plot(m))
	}
	return chaosPage.Execute(w, map[string]any{
		"Title": title, "Summary": r.String(), "Problems": r.Problems(), "Plots": plots, "Slopes": r.Slopes(),
	})
}

// plot draws one figure of all shims, from zero.
func (r *ChaosReport) plot(m measure) plot {
	end, top := r.Took.Seconds(), 0.0
	for _, s := range r.Samples {
		end, top = max(end, s.At.Seconds()), max(top, m.value(s))
	}
	end, top = cmp.Or(end, 1), cmp.Or(top, 1)
	const right, bottom = plotWidth - 10, plotHeight - plotMargin
	place := func(x, y float64) string {
		return fmt.Sprintf("%.1f %.1f", plotMargin+x/end*(right-plotMargin), 10+(1-y/top)*(bottom-10))
	}
	p := plot{
		Name: m.name, Top: fmt.Sprintf("%.1f", top), End: time.Duration(end * float64(time.Second)).Round(time.Second).String(),
		Axes: fmt.Sprintf("M%d 10V%dH%d", plotMargin, bottom, right),
	}
	for i, id := range r.containers() {
		x, y := r.points(id, m, 0)
		var at []string
		for k := range x {
			at = append(at, place(x[k], y[k]))
		}
		l := plotLine{Name: id, Colour: colours[i%len(colours)], X: plotMargin + 100*i, Path: "M" + strings.Join(at, "L")}
		p.Lines = append(p.Lines, l)
		if x, y = r.points(id, m, r.Took/2); len(x) >= fewest {
			f, from, to := fit(x, y), slices.Min(x), slices.Max(x)
			l.Fitted, l.Path = true, "M"+place(from, f.at0+f.slope*from)+"L"+place(to, f.at0+f.slope*to)
			p.Lines = append(p.Lines, l)
		}
	}
	return p
}
