// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// grown is a report of an hour in which one container's memory goes as given, in MB over
// hours, with noise; the other figures are level.
func grown(mb func(hours float64) float64) *ChaosReport {
	rng := rand.New(rand.NewPCG(1, 2))
	r := &ChaosReport{Took: time.Hour, Execs: 1, States: 1, Accepted: 1}
	for at := sampleEvery; at < r.Took; at += sampleEvery {
		v := mb(at.Hours()) + 0.3*rng.NormFloat64()
		r.Samples = append(r.Samples, Sample{At: at, Container: "c", Memory: int64(v * (1 << 20)), Counts: Counts{Fds: 20 + rng.IntN(10), Threads: 15}})
	}
	return r
}

func TestSlopes(t *testing.T) {
	for _, c := range []struct {
		name string
		mb   func(float64) float64
		want bool
	}{
		{"level", func(float64) float64 { return 7 }, false},
		{"falls", func(h float64) float64 { return 9 - 3*h }, false},
		{"leaks 3 MB an hour", func(h float64) float64 { return 6 + 3*h }, true},
		{"grows at first only", func(h float64) float64 { return 5 + min(4*h, 1.5) }, false},
		{"a hundredth an hour", func(h float64) float64 { return 7 + 0.07*h }, false},
	} {
		r := grown(c.mb)
		if got := len(r.growth()) > 0; got != c.want || len(r.Problems()) > 1 {
			t.Errorf("%s: %q, want one: %v", c.name, r.Problems(), c.want)
		}
		if n := len(r.Slopes()); n != len(measures) {
			t.Errorf("%s: %d slopes", c.name, n)
		}
	}
	short := grown(func(h float64) float64 { return 100 * h })
	short.Samples = short.Samples[:fewest]
	short.Took = fewest * sampleEvery
	if s := short.Slopes(); len(s) > 0 {
		t.Errorf("so few samples are judged: %v", s)
	}
}

func TestFit(t *testing.T) {
	l := fit([]float64{1, 2, 3, 4}, []float64{5, 7, 9, 11})
	if math.Abs(l.slope-2) > 1e-9 || math.Abs(l.at0-3) > 1e-9 || l.doubt > 1e-9 {
		t.Errorf("got %+v", l)
	}
	// By hand: the residuals are 0.4, -1.2, 1.2, -0.4.
	l = fit([]float64{0, 1, 2, 3}, []float64{1, 0, 3, 2})
	if math.Abs(l.slope-0.6) > 1e-9 || math.Abs(l.doubt-math.Sqrt(0.32)) > 1e-9 {
		t.Errorf("got %+v", l)
	}
	if l = fit([]float64{2, 2}, []float64{1, 3}); l.slope != 0 || l.at0 != 2 {
		t.Errorf("got %+v", l)
	}
}

// The page is one file, which any XML reader can read, with all that it is for.
func TestChaosPage(t *testing.T) {
	r := grown(func(h float64) float64 { return 6 + 3*h })
	r.Lost = []string{"<e1>"}
	var page bytes.Buffer
	if err := r.WriteHTML(&page, "an hour"); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, want := range []string{"&lt;e1&gt;", "growth: memory in MB of c", "stroke-dasharray", "1h0m0s"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	var drawings []string
	for s := range strings.SplitSeq(text, "<svg") {
		if i := strings.Index(s, "</svg>"); i >= 0 {
			drawings = append(drawings, "<svg"+s[:i]+"</svg>")
		}
	}
	if len(drawings) != len(measures) {
		t.Errorf("%d drawings", len(drawings))
	}
	for _, d := range drawings {
		for dec := xml.NewDecoder(strings.NewReader(d)); ; {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in %s", err, d)
			}
		}
	}
	if slices.ContainsFunc([]string{"http://", "https://"}, func(s string) bool {
		return strings.Contains(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", ""), s)
	}) {
		t.Error("the page refers to others")
	}
}
